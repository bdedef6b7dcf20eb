// Package pki decides about the certificates of the admission webhook and makes them: an authority of our own and a serving
// certificate signed by it, ECDSA P-256, kept as PEM in the four entries of a Secret.
//
// [Decide] says what is to be made, from what the Secret holds and the time; [Renew] makes it. Both take the clock, and
// Renew the dice, as arguments; neither reads nor writes anything. internal/webhook calls them.
//
// An authority is replaced while a third of its two years is left. Its successor is published a day before it signs
// anything, and the old one stays published until it ends, so that at every moment each certificate in use is signed by an
// authority that every API server has long known. A serving certificate lives for 90 days and is replaced with 30 left.
// Dates begin an hour early for clocks that are slow. A Secret that is gone or damaged is made anew at once: what is
// missing is not trusted any longer, which is also how an administrator revokes a key that has leaked.
//
// The library github.com/open-policy-agent/cert-controller does the same job and was not taken: it serves from files of a
// mounted Secret, which the kubelet brings a minute late and which a process without a volume does not have, or ends the
// process to have them; it replaces the authority in one step, without a time in which both are trusted; and it makes
// RSA keys.
//
// It is no general certificate authority: one DNS name, no revocation lists, no client certificates.
package pki
