package nexus

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Keyring seals secrets, and derives claim tokens and the names that secrets are stored
// under. It may hold several keys, for rotation; it seals with the first one, the writing
// key. Safe for concurrent use.
type Keyring struct {
	ids  []string
	keys map[string][]byte
}

var keyIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,16}$`)

// ParseKeyring reads "id:base64-of-32-bytes,…"; the first key is the writing key. An
// empty text is an error.
func ParseKeyring(text Secret) (*Keyring, error) {
	ring := &Keyring{keys: map[string][]byte{}}
	for i, part := range strings.Split(text.Reveal(), ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		key, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case !ok || !keyIDPattern.MatchString(id): // do not print the id: it may be a key without one
			return nil, fmt.Errorf("key %d is not of the form id:base64, with an id of at most 16 letters and digits", i+1)
		case err != nil || len(key) != 32:
			return nil, fmt.Errorf("key %q is not 32 bytes in base64 (make one with: openssl rand -base64 32)", id)
		case ring.keys[id] != nil:
			return nil, fmt.Errorf("key id %q is given twice", id)
		}
		ring.ids, ring.keys[id] = append(ring.ids, id), key
	}
	return ring, nil
}

// NewKeyring makes a keyring with one new key, and returns its text for ParseKeyring.
func NewKeyring() (*Keyring, Secret) {
	key := make([]byte, 32)
	rand.Read(key) //nolint:errcheck // never fails
	text := Secret("k1:" + base64.StdEncoding.EncodeToString(key))
	return &Keyring{ids: []string{"k1"}, keys: map[string][]byte{"k1": key}}, text
}

// ID is the id of the writing key.
func (k *Keyring) ID() string { return k.ids[0] }

// IDs lists the ids of all keys held, the writing key first.
func (k *Keyring) IDs() []string { return append([]string(nil), k.ids...) }

// Holds reports whether the keyring holds the key with this id.
func (k *Keyring) Holds(id string) bool { return k.keys[id] != nil }

// Purpose says what a sealed text is for. A text opens only for the purpose it was sealed
// for.
type Purpose string

// The purposes.
const (
	PurposeInput       Purpose = "input"
	PurposeCredentials Purpose = "credentials"
)

// Seal encrypts with AES-256-GCM under the writing key, with job and purpose as
// additional data: "id:base64(nonce and box)".
func (k *Keyring) Seal(job JobID, purpose Purpose, plain []byte) (string, error) {
	aead, err := k.aead(k.ID())
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) //nolint:errcheck // never fails
	box := aead.Seal(nonce, nonce, plain, []byte(string(job)+"/"+string(purpose)))
	return k.ID() + ":" + base64.RawStdEncoding.EncodeToString(box), nil
}

// Open decrypts what Seal made. Unavailable: the keyring does not hold the key, but
// another worker may. Internal: it cannot be decrypted.
func (k *Keyring) Open(job JobID, purpose Purpose, sealed string) ([]byte, error) {
	id, encoded, _ := strings.Cut(sealed, ":")
	if !k.Holds(id) {
		return nil, &Error{Code: Unavailable, Op: "keyring.open", Msg: "The key that seals this job is not loaded here.",
			Err: fmt.Errorf("no key %q", id)}
	}
	broken := func(err error) error {
		return &Error{Code: Internal, Op: "keyring.open", Msg: "The sealed data of this job cannot be read.", Err: err}
	}
	box, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, broken(err)
	}
	aead, err := k.aead(id)
	if err != nil {
		return nil, broken(err)
	}
	if len(box) < aead.NonceSize() {
		return nil, broken(errors.New("too short"))
	}
	nonce, box := box[:aead.NonceSize()], box[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, box, []byte(string(job)+"/"+string(purpose)))
	if err != nil {
		return nil, broken(err)
	}
	return plain, nil
}

// Claim is the token with which its holder may fetch a job's credentials and cancel the
// job. It is derived and not stored, so a replayed signup gets the same one. Compare with
// ClaimEqual.
func (k *Keyring) Claim(keyID string, job JobID) Secret {
	return Secret(hex.EncodeToString(k.mac(keyID, "claim", string(job))))
}

// ClaimEqual compares a token in constant time. It is false if the key is not held.
func (k *Keyring) ClaimEqual(keyID string, job JobID, token Secret) bool {
	return k.Holds(keyID) && hmac.Equal([]byte(k.Claim(keyID, job)), []byte(token))
}

// Fingerprints are digests of a text with each key held, the writing key first, as
// "id=hex". They only show whether two requests are equal: without the key, nobody can
// test guesses of a password that is in the text.
func (k *Keyring) Fingerprints(text []byte) []string {
	out := make([]string, len(k.ids))
	for i, id := range k.ids {
		out[i] = id + "=" + hex.EncodeToString(k.mac(id, "fingerprint", string(text)))
	}
	return out
}

// IdempotencyNames are the names under which an idempotency key is stored, one for each
// key held, the writing key first. The scope, which may be an e-mail, cannot be read from
// them.
func (k *Keyring) IdempotencyNames(scope, key string) []string {
	out := make([]string, len(k.ids))
	for i, id := range k.ids {
		out[i] = hex.EncodeToString(k.mac(id, "idempotency", scope+"/"+key)[:24])
	}
	return out
}

// Bucket is the name under which a rate limit counts an IP address or an e-mail, which
// cannot be read from it.
func (k *Keyring) Bucket(text string) string {
	return hex.EncodeToString(k.mac(k.ID(), "rate", text)[:12])
}

func (k *Keyring) mac(id, label, text string) []byte {
	m := hmac.New(sha256.New, k.sub(id, label))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func (k *Keyring) aead(id string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.sub(id, "seal"))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sub derives a key of its own for each use (HKDF, RFC 5869).
func (k *Keyring) sub(id, label string) []byte {
	key, err := hkdf.Key(sha256.New, k.keys[id], nil, "nexus/"+label, 32)
	if err != nil { // only for a length above 255 digests
		return nil
	}
	return key
}
