"""The certificates and keys in PEM files."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.process.pem import Contents, read_pem
from tests.certificates import certificate


class Read(SynchronousTestCase):
    def read(self, *contents: bytes) -> Contents:
        """What files with these contents hold together."""
        paths = []
        for content in contents:
            paths.append(Path(self.mktemp()))
            paths[-1].write_bytes(content)
        return read_pem(paths)

    def test_blocks_of_all_files_are_found(self) -> None:
        """A certificate and its key may stand in one file or in two, with text and other blocks
        around them."""
        first, second = certificate(1), certificate(2)
        other = b"-----BEGIN DH PARAMETERS-----\nx\n-----END DH PARAMETERS-----\n"
        contents = self.read(b"a note\n" + first[0] + other + first[1], second[0], second[1])
        self.assertEqual([found.serial_number for found in contents.certificates], [1, 2])
        self.assertEqual(len(contents.keys), 2)
        contents.check_keys()

    def test_broken_blocks_and_missing_files_are_refused(self) -> None:
        """A block that holds nothing readable is not passed over, nor is a file that is gone."""
        for kind in (b"CERTIFICATE", b"PRIVATE KEY"):
            block = b"-----BEGIN %s-----\neHh4\n-----END %s-----\n" % (kind, kind)
            self.assertRaises(ValueError, self.read, block)
        self.assertRaises(FileNotFoundError, read_pem, [self.mktemp()])

    def test_each_key_must_fit_a_certificate(self) -> None:
        """No key, or one whose certificate is not there, is refused; a certificate more is not."""
        first, second = certificate(1), certificate(2)
        self.read(*first, second[0]).check_keys()
        for contents in ((first[0],), (first[0], second[1]), (*first, second[1])):
            self.assertRaises(ValueError, self.read(*contents).check_keys)

    def test_roots_need_their_key(self) -> None:
        """A certificate that is its own issuer is named and refused, unless its key is there."""
        self.read(*certificate(1)).check_roots()
        contents = self.read(*certificate(1), certificate(2, "root")[0])
        error = self.assertRaises(OSError, contents.check_roots)
        self.assertIn("the root certificate CN=root must not be among them", str(error))
