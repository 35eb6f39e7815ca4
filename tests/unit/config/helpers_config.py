"""Loading text in tests."""

from __future__ import annotations

from pathlib import Path

from keepalived_py.config.load import LoadOptions, LoadResult, load

INSTANCE = """
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100
    }
}
"""


def load_text(directory: Path, text: str, *, config_id: str = "me", **files: str) -> LoadResult:
    """The result of loading `text`; further files lie beside it by name."""
    for name, content in files.items():
        (directory / f"{name}.conf").write_text(content)
    path = directory / "keepalived.conf"
    path.write_text(text)
    return load(str(path), LoadOptions(config_id=config_id))
