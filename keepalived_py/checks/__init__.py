"""Health of real and virtual servers as pure code: check results and the time go in, effects come out."""
