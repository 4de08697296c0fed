"""What is known of a network, as data: programs, inputs, plans. Nothing of a user's is imported, nothing runs."""
