package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"aead.dev/minisign"
)

// maxKey bounds the file of a key in bytes.
const maxKey = 4 << 10

// Errors of keys.
var (
	// ErrKey means that a text is not a key of minisign.
	ErrKey = errors.New("not a key of minisign")

	// ErrPassword means that a private key is encrypted, and not with this password.
	ErrPassword = errors.New("the password of the key is wrong")
)

// PublicKey verifies releases. Of the zero value none is.
type PublicKey struct{ key minisign.PublicKey }

// ParsePublicKey reads a public key as minisign writes it: 56 characters that begin with "RW", or
// the content of a file, which has a line of comment before them. Errors match [ErrKey].
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	if err := k.key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
		return PublicKey{}, fmt.Errorf("%.80q is %w: want RW and 54 letters and digits, or a .pub file", text, ErrKey)
	}
	return k, nil
}

// ReadPublicKey returns the key that value is or, where it is none, that the file of this name
// contains. Errors match [ErrKey] or are those of the file.
func ReadPublicKey(value string) (PublicKey, error) {
	if k, err := ParsePublicKey(value); err == nil {
		return k, nil
	}
	text, err := readKeyFile(value)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read the public key: %w", err)
	}
	k, err := ParsePublicKey(string(text))
	if err != nil {
		hint := "want RW and 54 letters and digits, or a .pub file"
		if bytes.Contains(text, []byte("secret key")) { // as minisign comments one
			hint = "it is the private key; name the .pub file beside it"
		}
		return PublicKey{}, fmt.Errorf("%s is %w for readers: %s", value, ErrKey, hint)
	}
	return k, nil
}

// String returns the key in 56 characters that begin with "RW".
func (k PublicKey) String() string { return k.key.String() }

// ID returns the key's identifier as minisign shows it, in 16 hex digits. Two keys may have the same one.
func (k PublicKey) ID() string { return formatKeyID(k.key.ID()) }

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool { return k.key.Equal(other.key) }

// File returns the content of the key's file.
func (k PublicKey) File() []byte {
	return fmt.Appendf(nil, "untrusted comment: minisign public key %s\n%s\n", k.ID(), k)
}

// PrivateKey signs releases.
type PrivateKey struct{ key minisign.PrivateKey }

// GenerateKey makes a key.
func GenerateKey() (PrivateKey, error) {
	_, key, err := minisign.GenerateKey(nil)
	return PrivateKey{key}, err
}

// ParsePrivateKey reads the content of a private key's file. It calls password if the key is
// encrypted, which takes seconds and 1 GiB of memory then. Errors match [ErrKey] or [ErrPassword],
// or are those of password.
func ParsePrivateKey(file []byte, password func() (string, error)) (PrivateKey, error) {
	file = bytes.TrimSpace(file)
	var k PrivateKey
	if minisign.IsEncrypted(file) {
		word, err := password()
		if err != nil {
			return PrivateKey{}, err
		}
		if k.key, err = minisign.DecryptKey(word, file); err != nil {
			return PrivateKey{}, ErrPassword
		}
	} else if err := k.key.UnmarshalText(file); err != nil {
		return PrivateKey{}, fmt.Errorf("%w: it has another form than a private key of minisign", ErrKey)
	}
	return k, k.check()
}

// check returns an error matching ErrKey unless the public part, which the file contains too, belongs to
// the private one: with another one, signatures would be worthless and give the key away.
func (k PrivateKey) check() error {
	probe := minisign.NewReader(strings.NewReader(""))
	if public := k.Public(); !probe.Verify(public.key, probe.Sign(k.key)) {
		return fmt.Errorf("%w: its private and its public part do not belong together", ErrKey)
	}
	return nil
}

// ReadPrivateKey is [ParsePrivateKey] for the file of this name.
func ReadPrivateKey(name string, password func() (string, error)) (PrivateKey, error) {
	file, err := readKeyFile(name)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("read the private key: %w", err)
	}
	k, err := ParsePrivateKey(file, password)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("the private key in %s: %w", name, err)
	}
	return k, nil
}

// Public returns the key that verifies the releases that k signs.
func (k PrivateKey) Public() PublicKey {
	public, _ := k.key.Public().(minisign.PublicKey)
	return PublicKey{public}
}

// File returns the content of the key's file, encrypted unless password is empty. Encrypting
// takes seconds and 1 GiB of memory, as minisign's own does.
func (k PrivateKey) File(password string) ([]byte, error) {
	if password == "" {
		file, err := k.key.MarshalText()
		return append(file, '\n'), err
	}
	file, err := minisign.EncryptKey(password, k.key)
	return append(file, '\n'), err
}

// WriteKeys writes the private key to the file name and the public one beside it, under the same
// name with .pub in place of .key, and returns that name. Neither may exist. The password is that of
// [PrivateKey.File]; only the user of this process may read the private key.
func WriteKeys(name string, k PrivateKey, password string) (public string, err error) {
	public = strings.TrimSuffix(name, ".key") + ".pub"
	if _, err := os.Lstat(public); err == nil {
		return "", fmt.Errorf("write the keys: %s exists already; choose another name for the new key", public)
	}
	file, err := k.File(password)
	if err != nil {
		return "", err
	}
	if err := writeNew(name, file, 0o600); err != nil {
		return "", fmt.Errorf("write the keys: %w", err)
	}
	if err := writeNew(public, k.Public().File(), 0o644); err != nil {
		return "", fmt.Errorf("write the keys: %w", errors.Join(err, os.Remove(name)))
	}
	return public, nil
}

// writeNew makes a file, on the disk when it returns.
func writeNew(name string, content []byte, perm os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// readKeyFile reads a file of at most maxKey bytes.
func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(text) > maxKey {
		err = fmt.Errorf("%s is %w: it has more than %d bytes", name, ErrKey, maxKey)
	}
	return text, err
}

func formatKeyID(id uint64) string { return fmt.Sprintf("%016X", id) }
