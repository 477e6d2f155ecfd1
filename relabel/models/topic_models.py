"""Ready spec of topic models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relabel.models.tables import allocated_spec, parameter_lines
from relabel.spec.spec import Spec

__all__ = ["topic_model"]


def topic_model(
    topics: str = "beta",
    documents: str | None = "theta",
    *,
    z: str | Sequence[str] | None = None,
    parameters: Sequence[str] | Mapping[str, str] = (),
    units: str = "topic",
) -> Spec:
    """Return the spec of a topic model: topics are exchangeable.

    Parameters
    ----------
    topics : str, default "beta"
        Words of each topic, stored topics x words: probabilities, which the default criterion
        compares by their logits.
    documents : str or None, default "theta"
        Topics of each document, stored documents x topics; None where it was not kept.
    z : str or sequence of str, optional
        Topics of the words: labels from 0 to K-1, of any shape (NaN or -1 where documents end).
    parameters : sequence of str, or mapping of str to str, optional
        Other variables with one value for each topic, or names and axes.
    units : str, default "topic"
        Name of the topics.

    Returns
    -------
    Spec

    Raises
    ------
    SpecError
        If a name occurs twice.

    Examples
    --------
    >>> topic_model(z="words/z").to_json()
    '{"units": {"topic": "permutation"}, "axes": {"beta": "topic _", "theta": "_ topic"}, \
"values": {"words/z": "topic"}, "supports": {"beta": "unit_interval", "theta": "unit_interval"}}'
    """
    lines = [(topics, f"{units} _")]
    if documents is not None:
        lines.append((documents, f"_ {units}"))
    weights = [name for name, _ in lines]
    lines += parameter_lines("topic_model", units, parameters)
    return allocated_spec("topic_model", {units: "permutation"}, lines, z, weights=weights)
