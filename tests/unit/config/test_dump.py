"""The dump: every keyword is written, odd values survive, and what it says is what objects work with."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.dump import dump
from keepalived_py.config.dump_words import escaped, quoted, script_words
from keepalived_py.config.keywords_bfd import BFD_INSTANCE
from keepalived_py.config.keywords_check import VIRTUAL_SERVER
from keepalived_py.config.keywords_root import ROOT
from keepalived_py.config.keywords_vrrp import VRRP_INSTANCE
from keepalived_py.config.lexer import split_shell_words, split_words
from keepalived_py.config.load import LoadOptions, load
from keepalived_py.config.model import Config, GrpcCheck, HttpCheck, Script, TlsSettings
from keepalived_py.config.schema import Keyword, Section
from tests.conftest import REPOSITORY
from tests.unit.config.helpers_config import INSTANCE, load_text


def again(tmp_path: Path, config: Config) -> Config:
    path = tmp_path / "dump.conf"
    path.write_text(dump(config), errors="surrogateescape")
    found = load(str(path), LoadOptions(config_id="another")).config
    assert found is not None
    return found


def read(tmp_path: Path, text: str) -> Config:
    found = load_text(tmp_path, text).config
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        INSTANCE.replace("interface eth0", "interface eth0\nversion 2") + "global_defs {\nvrrp_version 3\n}\n",
        INSTANCE.replace("interface eth0", "interface eth0\nno_accept\nstrict_mode") + "global_defs {\nvrrp_strict\n}",
        INSTANCE.replace("interface eth0", "interface eth0\nlower_prio_no_advert off")
        + "global_defs {\nvrrp_lower_prio_no_advert\nvrrp_min_garp\nvrrp_garp_extra_if all 60\n}\n",
        INSTANCE.replace("interface eth0", "interface eth0\nnative_ipv6\nno_virtual_ipaddress").replace(
            "        10.0.0.100\n", ""
        ),
        INSTANCE.replace("interface eth0", "interface eth0\nstate MASTER\npriority 255\nowner_ignore_adverts"),
        INSTANCE.replace("interface eth0", "interface eth0\nuse_vmac name v7 02:00:00:00:07 group 3\nvmac_xmit_base"),
        INSTANCE.replace("interface eth0", "interface eth0\nnotify \"/bin/a 'b c' d\\\\e \\x22 \\$x\" nobody :"),
        'vrrp_instance "a b" {\ninterface "eth{0}"\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n',
        "vrrp_instance $odd {\ninterface @eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n",
    ],
    ids=lambda text: text[:60],
)
def test_a_dump_reads_back(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, text)
    assert config.vrrp.instances
    assert again(tmp_path, config) == config


def test_checkers_of_ours_read_back(tmp_path: Path) -> None:
    text = """virtual_server 10.0.0.1 80 {
    real_server 10.0.0.2 80 {
        SSL_GET {
            verify
            ca /etc/ssl/ca.pem
            expected_name www.example.com
            warn_days 14
            basic_auth_file /etc/secret
            rise 2
            url {
                path /
                method POST
                header X-One "a b"
                body text
            }
        }
        GRPC_CHECK {
            service ready
            tls
            enable_sni
            verify
            expected_name www.example.com
        }
        GRPC_CHECK {
            connect_port 81
        }
    }
}
"""
    config = read(tmp_path, text)
    (server,) = config.checker.virtual_servers
    secure, named, plain = server.real_servers[0].checks
    assert isinstance(named, GrpcCheck)
    assert isinstance(plain, GrpcCheck)
    assert (named.service, named.tls) == ("ready", TlsSettings(sni=True, verify=True, expected_name="www.example.com"))
    assert (plain.service, plain.tls, plain.endpoint.port) == ("", None, 81)
    assert isinstance(secure, HttpCheck)
    assert secure.tls == TlsSettings(verify=True, ca="/etc/ssl/ca.pem", expected_name="www.example.com", warn_days=14)
    assert again(tmp_path, config) == config


def test_samples_read_back(tmp_path: Path) -> None:
    for path in sorted((REPOSITORY / "conf.d").rglob("*.conf")):
        config = load(str(path)).config
        assert config is not None
        assert again(tmp_path, config) == config


def test_a_fractional_limit_of_a_script_check_survives(tmp_path: Path) -> None:
    text = (
        "virtual_server 10.0.0.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\ndelay_loop 0.5\n"
        "real_server 10.1.0.1 80 {\nMISC_CHECK {\nmisc_path /bin/true\n}\n}\n}\n"
    )
    config = read(tmp_path, text)
    assert "delay_loop 0.5" in dump(config)
    assert again(tmp_path, config) == config


def test_inherited_values_are_written_where_they_ended_up(tmp_path: Path) -> None:
    text = dump(read(tmp_path, "global_defs {\nvrrp_garp_master_repeat 3\n}\n" + INSTANCE))
    assert "\n    garp_master_repeat 3\n" in text
    assert "\n    priority 100\n" in text
    assert "\n    state BACKUP\n" in text


def test_identities_of_scripts_do_not_depend_on_the_default(tmp_path: Path) -> None:
    text = INSTANCE.replace("interface eth0", 'interface eth0\nnotify "/bin/true"')
    config = read(tmp_path, text + "global_defs {\nscript_user nobody\n}\n")
    assert config.vrrp.instances[0].notify.any is not None
    assert again(tmp_path, config) == config


@pytest.mark.parametrize(
    "word", ["", "a b", "#", "a!b", "{", "}", "$X", "${X}", "@a", "~SEQ(a,1)", "include", "\\", "\t", "é"]
)
def test_words_survive_quoting(word: str) -> None:
    assert split_words(quoted(word)) == (word,)


@pytest.mark.parametrize(
    "argument", ["", "a b", "'", '"', "\\", "$HOME", "{}", "#!", "\n\t\r", "\x7f\x01", "é", "a'b\"c"]
)
def test_arguments_survive_quoting(argument: str) -> None:
    line = script_words(Script(argv=("/bin/x", argument), user="u", group=":g"))
    assert line.count('"') == 2
    command, user, group = split_shell_words(line, undo_escapes=False)
    assert split_shell_words(command, undo_escapes=True) == ("/bin/x", argument)
    assert (user, group) == ("u", ":g")


def test_patterns_survive_quoting() -> None:
    assert split_shell_words(f'"{escaped("^a +$|x{2}#")}"', undo_escapes=True) == ("^a +$|x{2}#",)


def sections(section: Section, name: str = "") -> dict[str, Section]:
    found = {name or section.name: section}
    for keyword in section.keywords:
        inner = keyword.block or keyword.contents
        if inner is not None:
            found |= sections(inner, keyword.name)
    return found


def test_every_scalar_keyword_of_the_tables_is_written_or_said_to_end_elsewhere() -> None:
    """A keyword that the dump forgets would make every file that uses it come back changed, or lose it silently."""
    source = "".join(
        (REPOSITORY / "keepalived_py" / "config" / f"dump{part}.py").read_text() for part in ("", "_check")
    )
    by_table = {"(root)", "global_defs", "vrrp_instance", "bfd_instance"}
    shared = set(VRRP_INSTANCE.table)  # a sync group writes them as an instance does
    elsewhere = {
        # inherited by what is below, which writes it
        *(
            keyword.name
            for keyword in VIRTUAL_SERVER.keywords
            if keyword.name in ("retry", "warmup", "weight", "hashed")
        ),
        *("delay_before_retry", "connect_timeout", "delay_loop", "inhibit_on_failure", "sh-port", "sh-fallback"),
        *(
            "mh-port",
            "mh-fallback",
            "flag-1",
            "flag-2",
            "flag-3",
            "ops",
            "lb_algo",
            "lb_kind",
            "user",
            "delay",
            "interface",
        ),
    }

    def written(keyword: Keyword) -> bool:
        return (
            bool(keyword.alias_of)
            or keyword.name in elsewhere | shared
            or f'"{keyword.name}' in source
            or (f" {keyword.name} " in source or f'"{keyword.name} ' in source)
        )

    for name, section in sections(ROOT).items():
        if name in by_table:
            continue  # written by walking the table: a new keyword is written, or fails, by itself
        forgotten = [each.name for each in section.keywords if not written(each)]
        assert forgotten == [], name


def test_tables_name_fields_of_the_model() -> None:
    """What _by_table walks: an unknown field would raise."""
    config = Config()
    assert dump(config).startswith("global_defs {")
    assert BFD_INSTANCE.keywords


def test_the_old_way_to_synchronise_connections(tmp_path: Path) -> None:
    old = INSTANCE.replace("interface eth0", "interface eth0\nlvs_sync_daemon_interface eth1")
    config = read(tmp_path, old)
    daemon = config.global_defs.lvs_sync_daemon
    assert daemon is not None
    assert (daemon.interface, daemon.instance) == ("eth1", config.vrrp.instances[0].name)
    assert again(tmp_path, config) == config
    newer = read(tmp_path, "global_defs {\nlvs_sync_daemon eth2 VI_1\n}\n" + old)
    assert newer.global_defs.lvs_sync_daemon is not None
    assert newer.global_defs.lvs_sync_daemon.interface == "eth2"
