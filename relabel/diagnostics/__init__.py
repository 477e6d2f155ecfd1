"""What can be said of aligned draws: one file per question."""
