"""Pure values and laws; nothing here reads or writes anything."""
