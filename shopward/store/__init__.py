"""What Shopward remembers: the log (the source of truth), snapshots, the lake, the tables and the vault, in one data folder."""
