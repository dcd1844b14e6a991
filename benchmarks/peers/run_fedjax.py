"""FedJAX 0.0.17 (Ro et al. 2021): compiled steps, clients in turn; XLA may use all cores of the machine."""

import jax
import numpy as np

# FedJAX was last released before JAX took these two names away.
jax.tree_map = jax.tree_util.tree_map
jax.tree_leaves = jax.tree_util.tree_leaves

import fedjax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from fedjax.algorithms.fed_avg import create_train_for_each_client  # noqa: E402
from fedjax.core import tree_util  # noqa: E402

from benchmarks.peers.workloads import LEARNING_RATE, Run, build_network, cohort, make_data  # noqa: E402


def conv(x, weight, bias):
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias


def pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def loss(params, batch, rng):
    weights = list(params.values())
    x = pool(jax.nn.relu(conv(batch["x"], *weights[:2])))
    x = pool(jax.nn.relu(conv(x, *weights[2:4])))
    x = jax.nn.relu(x.reshape(len(x), -1) @ weights[4] + weights[5])
    logits = x @ weights[6] + weights[7]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()


def to_jax(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Turn torch's layout into JAX's: channels last."""
    first, a, second, b, dense, c, last, d = arrays
    side = int((dense.shape[1] // 32) ** 0.5)
    dense = dense.reshape(-1, 32, side, side).transpose(2, 3, 1, 0).reshape(-1, dense.shape[0])
    return [first.transpose(2, 3, 1, 0), a, second.transpose(2, 3, 1, 0), b, dense, c, last.T, d]


def to_torch(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Undo :func:`to_jax`."""
    first, a, second, b, dense, c, last, d = (np.asarray(array) for array in arrays)
    side = int((dense.shape[0] // 32) ** 0.5)
    dense = dense.reshape(side, side, 32, -1).transpose(3, 2, 0, 1).reshape(dense.shape[1], -1)
    return [first.transpose(3, 2, 0, 1), a, second.transpose(3, 2, 0, 1), b, dense, c, last.T, d]


def main() -> None:
    run = Run()
    work = run.work
    images, classes = make_data(work)
    network = build_network(input_shape=images.shape[2:])
    start = to_jax([parameter.detach().numpy() for parameter in network.parameters()])
    # Keys are sorted by JAX; two digits keep them in order.
    params = {f"p{place}": jnp.asarray(array) for place, array in enumerate(start)}
    clients = [
        fedjax.ClientDataset({"x": images[index].transpose(0, 2, 3, 1), "y": classes[index].astype(np.int32)})
        for index in range(work.clients)
    ]
    batches = fedjax.BatchHParams(batch_size=work.batch)
    train = create_train_for_each_client(jax.grad(loss), fedjax.optimizers.sgd(LEARNING_RATE))
    key = jax.random.PRNGKey(0)
    for number in run.rounds():
        chosen = cohort(work, number)
        total, count = tree_util.tree_zeros_like(params), 0.0
        for index, delta in train(params, [(index, clients[index].batch(batches), key) for index in chosen]):
            total = tree_util.tree_add(total, tree_util.tree_weight(delta, len(clients[index])))
            count += len(clients[index])
        mean = tree_util.tree_inverse_weight(total, count)
        params = jax.block_until_ready(jax.tree_util.tree_map(lambda value, move: value - move, params, mean))
    run.finish(to_torch(list(params.values())))


if __name__ == "__main__":
    main()
