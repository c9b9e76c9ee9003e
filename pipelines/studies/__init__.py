"""Small studies on data made on the spot: each one command, a table and a picture."""
