"""Files: read with care, written whole or not at all; locks, tables, FITS, the download."""
