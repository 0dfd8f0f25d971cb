"""The recorded numbers are the committed ones, bit for bit, and on another processor too."""

import sys

import digest
import numpy as np
from processors import BASELINE, compare

RENEW = "if a change of them is meant, renew the digest: python tests/validation/digest.py --write"


def test_the_recorded_numbers_are_the_committed_ones():
    wrong, count = digest.differences()
    assert not wrong, f"{len(wrong)} of {count} parts differ: {', '.join(wrong)}; {RENEW}"


def test_the_recorded_numbers_are_the_same_without_the_instructions_of_newer_processors():
    done = compare(BASELINE, [sys.executable])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_digest_sees_one_bit():
    values = np.array([1.0, 2.0])
    assert digest.digest_of([values]) == digest.digest_of([values.copy()])
    assert digest.digest_of([values]) != digest.digest_of([np.nextafter(values, 3.0)])
    assert digest.digest_of([values]) != digest.digest_of([values[None]])
