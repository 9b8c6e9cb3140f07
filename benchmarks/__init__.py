"""What tracking costs, as ratios measured in one run beside a hand-written floor."""
