"""How this project is tested; ``./inv test`` runs it all."""
