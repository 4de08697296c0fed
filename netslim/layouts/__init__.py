"""What a dimension is made of: takes sizes and how operators tie them, gives layouts, index sets and cuts."""
