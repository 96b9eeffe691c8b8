"""Load the credentials that sign: a key and certificates of the user's own, or those of this installation."""

from __future__ import annotations

import datetime
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mouthpiece.engine.errors import InvalidInputError, UsageError
from mouthpiece.engine.files import check_input_file, make_output_error
from mouthpiece.engine.folders import CONFIG_VARIABLE, get_config_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import BasicConstraints, Certificate, CertificateBuilder

KEY_VARIABLE = "MOUTHPIECE_SIGNING_KEY"  # names a private key as PEM
CERT_VARIABLE = "MOUTHPIECE_SIGNING_CERT"  # names its certificates as PEM
_FOLDER = "signing"  # in the configuration folder
_KEY = "key.pem"  # in that folder
_CERTIFICATES = "certificates.pem"  # in that folder
_VALID_DAYS = 3650  # of certificates that are made here
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}  # curve -> C2PA's algorithm
# all key uses that X.509 knows, by their names in the cryptography package
_KEY_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Credentials:
    """Key and certificates that a signature is made with.

    key: the private key as PEM; it stays out of texts, logs and side-cars.
    certificates: PEM, the signer's own first, then those above it.
    algorithm: name as C2PA writes it, such as "ES256".
    signer: the name in the signer's certificate.
    is_users: True for the user's own, False for the self-signed ones of this installation.
    """

    key: bytes = field(repr=False)
    certificates: bytes = field(repr=False)
    algorithm: str
    signer: str
    is_users: bool


def load_credentials(key: str | Path | None = None, certificates: str | Path | None = None) -> Credentials:
    """Load the credentials to sign with: those given, those of the environment, else those of this installation.

    key, certificates: PEM files, both or neither; None looks at MOUTHPIECE_SIGNING_KEY and MOUTHPIECE_SIGNING_CERT.
    Raises UsageError for one without the other, InvalidInputError for files that are not a key and its certificate,
    OutputError when the installation's own cannot be kept.
    """
    if key is None and certificates is None:
        key, certificates = (os.environ.get(name) or None for name in (KEY_VARIABLE, CERT_VARIABLE))
    if (key is None) != (certificates is None):
        given, lacking = (
            ("--signing-key", "--signing-cert") if certificates is None else ("--signing-cert", "--signing-key")
        )
        raise UsageError(f"{given} without {lacking}.", hint="Give both, or neither.", code="usage")
    if key is not None and certificates is not None:
        return _read_credentials(
            check_input_file(key, "private key"), check_input_file(certificates, "certificate"), is_users=True
        )
    folder = get_config_folder() / _FOLDER
    if not (folder / _KEY).is_file():
        _make_credentials(folder)
    return _read_credentials(folder / _KEY, folder / _CERTIFICATES, is_users=False)


def read_own_anchor() -> str | None:
    """Read the certificate at the top of this installation's own as PEM; None when there is none yet."""
    try:
        pem = (get_config_folder() / _FOLDER / _CERTIFICATES).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    begin = "-----BEGIN CERTIFICATE-----"
    return begin + pem.rpartition(begin)[2] if begin in pem else None


def _read_credentials(key_path: Path, certificates_path: Path, is_users: bool) -> Credentials:
    """Read a key and its certificates, and check that they fit and are valid today."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        key, chain = key_path.read_bytes(), certificates_path.read_bytes()
    except OSError as error:
        hint = f"Check the permissions, or set {CONFIG_VARIABLE} to another folder."
        raise InvalidInputError(
            f"{error.filename}: cannot be read ({error.strerror}).", hint=hint, code="unreadable"
        ) from error
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, RuntimeError) as error:
        hint = "Give a private key as PEM, without a passphrase, readable by you alone."
        raise InvalidInputError(
            f"{key_path}: this is not a private key that can be read.", hint=hint, code="bad_key"
        ) from error
    try:
        signer = load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        hint = "Give the signer's certificate as PEM, followed by those above it."
        raise InvalidInputError(
            f"{certificates_path}: no certificate in it.", hint=hint, code="bad_certificate"
        ) from error
    public = [
        k.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for k in (private.public_key(), signer.public_key())
    ]
    if public[0] != public[1]:
        hint = "The first certificate must be that of the key."
        raise InvalidInputError(
            f"{certificates_path}: belongs to another key than {key_path}.", hint=hint, code="bad_certificate"
        )
    now = datetime.datetime.now(datetime.UTC)
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        until = f"{signer.not_valid_before_utc:%Y-%m-%d} to {signer.not_valid_after_utc:%Y-%m-%d}"
        hint = (
            "Give one that is valid today."
            if is_users
            else f"Check the clock; remove the folder {key_path.parent} to have new ones made."
        )
        raise InvalidInputError(f"{certificates_path}: valid {until}, not today.", hint=hint, code="bad_certificate")
    return Credentials(key, chain, _choose_algorithm(private, key_path), _get_common_name(signer), is_users)


def _choose_algorithm(private: PrivateKeyTypes, path: Path) -> str:
    """Choose C2PA's algorithm for a key. Raises InvalidInputError for a kind that C2PA does not sign with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "PS256"
    hint = "Give an EC key (P-256, P-384, P-521), an RSA key of 2048 bits or more, or an Ed25519 key."
    raise InvalidInputError(f"{path}: a key of a kind that C2PA does not sign with.", hint=hint, code="bad_key")


def _get_common_name(certificate: Certificate) -> str:
    """Get the name of a certificate's subject."""
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _make_credentials(folder: Path) -> None:
    """Make a key and its certificates, in a folder that appears whole; of two processes that do, the first wins."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, chain = _generate_key_pair()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".signing-", dir=folder.parent, ignore_cleanup_errors=True) as place:
            part = Path(place) / _FOLDER  # the folder around it is open to its owner alone
            part.mkdir(mode=0o700)
            with open(os.open(part / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            (part / _CERTIFICATES).write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain))
            try:
                part.rename(folder)
            except OSError:
                if not (folder / _KEY).is_file():
                    raise
    except OSError as error:
        problem = make_output_error(folder, error)
        way_out = f"set {CONFIG_VARIABLE} to a folder of yours, or use --no-provenance."
        problem.hint = f"The key that marks outputs is kept there: {way_out}"
        raise problem from error


def _generate_key_pair() -> tuple[EllipticCurvePrivateKey, list[Certificate]]:
    """Generate a private key and the certificates [signer, authority]; the authority's own key is thrown away.

    Source: C2PA 2.2, section 14.5: certificate profile of signing credentials.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    top, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    # tells two installations apart; says nothing of the machine
    serial = f"{x509.random_serial_number() >> 128:08x}"[:8]
    names = [f"Mouthpiece self-signed authority {serial}", f"Mouthpiece self-signed {serial}"]
    authority_draft = _build_certificate(
        names[0], names[0], top.public_key(), x509.BasicConstraints(True, 0), ("key_cert_sign", "crl_sign")
    )
    authority = _sign_certificate(authority_draft, top, top)
    signer = _build_certificate(
        names[1], names[0], key.public_key(), x509.BasicConstraints(False, None), ("digital_signature",)
    )
    signer = signer.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return key, [_sign_certificate(signer, top, top), authority]


def _build_certificate(
    subject: str,
    issuer: str,
    public: EllipticCurvePublicKey,
    constraints: BasicConstraints,
    uses: tuple[str, ...],
) -> CertificateBuilder:
    """Build a certificate that is still to be signed. uses: those of _KEY_USES that it allows."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def make_name(text: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Mouthpiece (self-signed)")
        return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(make_name(subject))
        .issuer_name(make_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(constraints, True)
        .add_extension(x509.KeyUsage(**{use: use in uses for use in _KEY_USES}), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
    )


def _sign_certificate(
    builder: CertificateBuilder, key: EllipticCurvePrivateKey, issuer: EllipticCurvePrivateKey
) -> Certificate:
    """Sign a certificate with a key, under the authority whose key is `issuer`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(above, False).sign(key, hashes.SHA256())
