"""A network in pictures: a page that a browser opens offline, and the lanes of its groups."""
