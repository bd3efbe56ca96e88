"""Training of the models: data in arrays, weights and a card out."""
