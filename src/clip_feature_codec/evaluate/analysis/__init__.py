"""What an evaluation's rows come to: intervals, differences, curves, changes."""
