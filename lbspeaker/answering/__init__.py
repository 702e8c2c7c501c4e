"""The speaker's side of the answerer: what it is told, and what its reports mean."""
