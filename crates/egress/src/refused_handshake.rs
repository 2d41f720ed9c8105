//! Recognises a machine's program that gives up a connection in its TLS handshake, mostly because it does not trust the certificate: a
//! proxy inspects TLS, and its authority is not configured. In TLS 1.3 the certificate and the alert are encrypted, so the number of bytes shows it.

/// The most that a program sends after its ClientHello without a request, bytes: an alert instead of the end of the handshake, or the end
/// of the handshake and then an alert (Node.js checks the certificate afterwards). With a request it is more.
const AFTER_HELLO_BYTES_MAX: u64 = 200;

/// Whether a connection ended in its handshake: the host answered, and the program sent no request. `hello`, `up` and `down`: bytes of the
/// ClientHello, and of the whole connection from and to the machine.
pub(crate) fn is_given_up(hello: u64, up: u64, down: u64) -> bool {
    hello > 0 && down > 0 && up.saturating_sub(hello) <= AFTER_HELLO_BYTES_MAX
}
