"""Fingerprints: what tells the inputs, the metric, the program and the model of a run from those of another.

A journal that is gone on with, and a result that is not asked for again, belong to what they were made with. What that
is, is told here by its content: never by a ``repr``, an address or the order of a hash, so that it is the same in every
process and on every machine. What does not change a result (keys, addresses, time-outs, threads) is left out.

- `data` is for data; an image or a file counts by its bytes.
- `code` is for functions and classes: by their source, together with what they use of the user's own modules.
- `programs` is for what makes a result: metric, program, model, adapter, versions. It stands on both.
"""

from dspex.fingerprints.data import content as content
from dspex.fingerprints.data import content_digest as content_digest
from dspex.fingerprints.data import canonical as canonical
from dspex.fingerprints.programs import metric_fingerprint as metric_fingerprint
from dspex.fingerprints.programs import program_fingerprint as program_fingerprint
from dspex.fingerprints.programs import model_fingerprint as model_fingerprint
from dspex.fingerprints.programs import models_fingerprint as models_fingerprint
from dspex.fingerprints.programs import code_fingerprint as code_fingerprint
from dspex.fingerprints.programs import adapter_fingerprint as adapter_fingerprint
from dspex.fingerprints.programs import versions as versions

# Errors.
from dspex.fingerprints.data import NoFingerprint as NoFingerprint
