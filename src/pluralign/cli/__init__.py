"""The `pluralign` command: a thin layer over the library. Nothing else imports it."""
