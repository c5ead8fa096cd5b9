"""What acts: pull, decide, bring children, write."""
