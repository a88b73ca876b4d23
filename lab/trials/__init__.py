"""What is tried on runtimes under enforcement, all of it the same way.

``rows`` (a row, what was found, an outcome; a series: rows and what tries them), ``runner`` and ``document``.

Kinds of trials: ``matrix`` (rows in ``model``, images in ``marks``, ``images`` and ``lab``, ways in ``ways``),
``pods`` (scenarios; ``kind_pods`` brings them to a cluster), ``crio_starts``, ``crio_own`` and ``library`` (CRI-O's own
engine, judged by ``engines``), ``admission``. ``consistency`` lays the engines' documents side by side.

Certificates: ``authority`` issues them and logs signatures, ``signers`` says who signs, ``certified`` writes both
formats.

Runtimes: ``place`` (what trials need of one), ``cri_place``, ``containerd_place``, ``crio_place``, and the table in
``runtimes``.
"""
