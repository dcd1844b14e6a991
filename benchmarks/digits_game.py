"""A game of ten owners of handwritten digits in which each coalition's model is trained from scratch."""

import numpy as np
from sklearn.datasets import load_digits

from aequa_lightning.contributions.values import Coalitions, Utility


def digits_game(seed: int = 0) -> Utility:
    """Return the validation accuracy of ridge regression onto classes, trained on a coalition's joint data.

    The owners hold 200, 120, 80, 40 and 15 clean samples, 120 with two fifths of the labels random, 100 with all labels
    random, none, a copy of the second owner's, and all samples of class 9. Whoever has no data at all guesses class 0.
    """
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    images = np.hstack([images / 16, np.ones((len(images), 1))])
    order = rng.permutation(len(images))
    validation, pool = order[:600], order[600:]
    nines, others = pool[labels[pool] == 9], pool[labels[pool] != 9]
    sizes = [200, 120, 80, 40, 15, 120, 100, 0]
    parts = [*np.split(others, np.cumsum(sizes))[: len(sizes)], others[200:320], nines]
    noise = {5: 0.4, 6: 1.0}
    grams, products = [], []
    for owner, part in enumerate(parts):
        own = np.where(rng.random(len(part)) < noise.get(owner, 0.0), rng.integers(0, 10, len(part)), labels[part])
        grams.append(images[part].T @ images[part])
        products.append(images[part].T @ np.eye(10)[own])
    gram, product = np.array(grams), np.array(products)

    def utility(coalitions: Coalitions) -> np.ndarray:
        worth = []
        for members in coalitions:
            weights = np.linalg.solve(gram[members].sum(axis=0) + np.eye(65), product[members].sum(axis=0))
            worth.append(((images[validation] @ weights).argmax(axis=1) == labels[validation]).mean())
        return np.array(worth)

    return utility
