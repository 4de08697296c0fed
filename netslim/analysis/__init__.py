"""From recorded runs to a plan: channel groups, programs right for every width, skippable blocks."""
