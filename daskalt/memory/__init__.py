"""What a fit will take: measured on a rehearsal, added up, and refused where it is too much."""
