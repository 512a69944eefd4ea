"""Files: what comes from outside is checked here; written whole or not at all; locks, tables, the download."""
