package shardcast

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
	"github.com/shardcast/shardcast/internal/store"
)

const (
	// NeverExpires is the validity of releases that do not expire, see [SignOptions].
	NeverExpires = signing.NeverExpires

	// DefaultExpires is how long releases of a data directory are valid at first.
	DefaultExpires = signing.DefaultExpires
)

// Errors of signing that callers can tell apart with [errors.Is]. The texts have the remedy.
var (
	// ErrSigned means that the versions of a data directory are signed, and that the key is missing
	// that changes them, see [SignOptions].
	ErrSigned = signing.ErrSigned

	// ErrUnsigned means that a data directory has versions that are not signed; [Origin.Sign] takes
	// them in.
	ErrUnsigned = signing.ErrUnsigned

	// ErrOtherKey means that the release of a data directory was signed by another key, or was
	// changed afterwards.
	ErrOtherKey = signing.ErrOtherKey

	// ErrCopy means that the key has signed later releases of the feed than the data directory has.
	ErrCopy = signing.ErrCopy

	// ErrPassword means that a key is encrypted by another password.
	ErrPassword = release.ErrPassword
)

// A SignKey is a private key of minisign, which signs the versions of an [Origin].
type SignKey struct{ key release.PrivateKey }

// ReadSignKey reads the private key in a file. It calls password if the key is encrypted, which takes
// a second or so and 1 GiB of memory then; nil is for a key that is not. Errors match [ErrPassword],
// or are those of the file and of password.
func ReadSignKey(file string, password func() (string, error)) (*SignKey, error) {
	if password == nil {
		password = func() (string, error) { return "", errors.New("it is encrypted, and its password is missing") }
	}
	key, err := release.ReadPrivateKey(file, password)
	if err != nil {
		return nil, err
	}
	return &SignKey{key}, nil
}

// GenerateSignKey makes a key, and writes it to file, encrypted unless password is empty, for this
// user alone; and the public key to the file of that name with .pub in place of .key. Neither may
// exist.
func GenerateSignKey(file, password string) (key *SignKey, public string, err error) {
	private, err := release.GenerateKey()
	if err != nil {
		return nil, "", err
	}
	if public, err = release.WriteKeys(file, private, password); err != nil {
		return nil, "", err
	}
	return &SignKey{private}, public, nil
}

// Public returns the public key, by which readers verify: 56 characters that begin with "RW".
func (k *SignKey) Public() string { return k.key.Public().String() }

// CheckFeed returns an error matching [ErrOptions] unless name can name a feed: 1 to 255 letters,
// digits and ".", "_", "-" and "/" of ASCII, of which the first is a letter or digit.
func CheckFeed(name string) error {
	if err := release.CheckFeed(name); err != nil {
		return fmt.Errorf("%w: Sign.Feed: %w", ErrOptions, err)
	}
	return nil
}

// SignOptions say how an [Origin] signs the versions that it publishes, so that readers with the
// public key take no others. The zero value signs nothing.
type SignOptions struct {
	// Key signs. Nil means none: then nothing is published or retired in a data directory that has
	// a release.
	Key *SignKey

	// PreviousKeys are public keys, or the names of their files, by which the last release may be
	// signed: Key then takes over what it lists.
	PreviousKeys []string

	// Feed names the data directory's list of versions, such as "weights.example.org/llama", at its
	// first release, and belongs to the directory afterwards. Empty means the directory's.
	Feed string

	// Expires becomes the time for which the directory's releases are valid, in whole seconds, or
	// [NeverExpires]. Zero means the directory's own, [DefaultExpires] at first.
	Expires time.Duration

	// StateDir is the directory where this user's latest releases are remembered, by which a copied
	// or restored data directory is recognised. Empty means $XDG_STATE_HOME/shardcast, or
	// ~/.local/state/shardcast.
	StateDir string
}

// apply has the writers of st sign by o.
func (o SignOptions) apply(st *store.Store) error {
	if o.Key == nil {
		if o.Feed != "" || o.Expires != 0 || o.PreviousKeys != nil {
			return fmt.Errorf("%w: Sign has no effect without Sign.Key", ErrOptions)
		}
		return nil
	}
	previous, err := publicKeys(o.PreviousKeys)
	if err != nil {
		return fmt.Errorf("%w: Sign.PreviousKeys: %w", ErrOptions, err)
	}
	by := signing.Options{
		Key: o.Key.key, Previous: previous, Feed: o.Feed, Expires: o.Expires,
		StateDir: stateDir(o.StateDir, "published"),
	}
	if err := by.Check(); err != nil {
		if errors.Is(err, signing.ErrFeed) {
			return feedError(err)
		}
		return fmt.Errorf("%w: Sign.Expires: %w", ErrOptions, err)
	}
	st.SignBy(by)
	return nil
}

// feedError has an error of the feed match [ErrOptions].
func feedError(err error) error {
	if errors.Is(err, signing.ErrFeed) {
		return fmt.Errorf("%w: Sign.Feed: %w", ErrOptions, err)
	}
	return err
}

// stateDir returns the directory name in dir, of what this user remembers, or in the system's for
// users if dir is empty. It is empty where there is none.
func stateDir(dir, name string) string {
	if dir != "" {
		return filepath.Join(dir, name)
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "shardcast", name)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "shardcast", name)
}

// A Renewal says what [Origin.Sign] takes in beside the versions of the last release. The zero
// value takes in none.
type Renewal struct {
	// Versions are names of versions in the data directory that no release lists.
	Versions []string

	// Adopt takes in all versions on offer of a data directory that has no release.
	Adopt bool

	// NewEpoch has readers begin again with this release, whatever they have had before: for a data
	// directory that is a copy, or was restored.
	NewEpoch bool
}

// Sign signs the release of the data directory anew: the versions of the last one that are still
// here, and those that r takes in, all of whose bytes it reads before. Errors match [ErrIntegrity] if
// these are wrong, [ErrNoVersion] if one is not there, [ErrSigned] without a key or for an adoption
// where there is a release, [ErrUnsigned], [ErrOtherKey], [ErrCopy] or [ErrOptions].
func (o *Origin) Sign(ctx context.Context, r Renewal) (Release, error) {
	renewal, err := r.renewal()
	if err != nil {
		return Release{}, err
	}
	signed, err := o.origin.Sign(ctx, renewal)
	if err != nil {
		return Release{}, integrityError(feedError(err))
	}
	return releaseOf(signed), nil
}

// KeepSigned is [Origin.Sign] now, and without r again at each interval, until ctx ends: so readers
// see that nothing newer is withheld from them. It returns the error of the first signature alone;
// later ones are logged, and tried again sooner than at the interval. The error matches [ErrOptions] if
// a signature would expire within the interval.
func (o *Origin) KeepSigned(ctx context.Context, r Renewal, interval time.Duration) error {
	renewal, err := r.renewal()
	if err != nil {
		return err
	}
	validity, err := o.store.Validity()
	if err != nil {
		return err
	}
	if interval <= 0 || validity != NeverExpires && interval >= validity {
		return fmt.Errorf("%w: Interval: %s, want less than the %s for which a signature is valid", ErrOptions,
			interval, validity)
	}
	return integrityError(feedError(o.origin.KeepSigned(ctx, renewal, interval)))
}

func (r Renewal) renewal() (origin.Renewal, error) {
	renewal := origin.Renewal{Adopt: r.Adopt, NewEpoch: r.NewEpoch}
	for _, name := range r.Versions {
		v, err := parseVersion(name)
		if err != nil {
			return origin.Renewal{}, err
		}
		renewal.Versions = append(renewal.Versions, v)
	}
	if r.Adopt && len(r.Versions) > 0 {
		return origin.Renewal{}, fmt.Errorf("%w: Adopt takes in all versions, and some are named", ErrOptions)
	}
	return renewal, nil
}

// integrityError has an error of wrong bytes match [ErrIntegrity].
func integrityError(err error) error {
	if errors.Is(err, origin.ErrWrong) {
		return fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	return err
}

// A Release is the signed list of the versions of a data directory.
type Release struct {
	// Feed names the list. Epoch and Seq order its releases.
	Feed       string
	Epoch, Seq uint64

	// Issued is when it was signed, and Expires when it ceases to be valid, or zero for never.
	Issued, Expires time.Time

	// KeyID is what minisign calls the key of the signature.
	KeyID string

	// Versions are the names of those that it lists, ascending, and Withdrawn of those that it
	// declares bad.
	Versions, Withdrawn []string
}

func releaseOf(s release.Signed) Release {
	if s.Bytes() == nil {
		return Release{}
	}
	r := Release{
		Feed: s.Release.Feed, Epoch: s.Release.Epoch, Seq: s.Release.Seq,
		Issued: s.Release.Issued, Expires: s.Release.Expires, KeyID: s.KeyID(),
	}
	for _, e := range s.Release.Entries {
		if e.Withdrawn {
			r.Withdrawn = append(r.Withdrawn, e.Version.String())
		} else {
			r.Versions = append(r.Versions, e.Version.String())
		}
	}
	return r
}

// HeldRelease returns the release of the data directory dir, whose signature it does not verify. The
// error matches [fs.ErrNotExist] if there is none, or no such directory.
func HeldRelease(dir string) (Release, error) {
	st, err := store.Read(dir)
	if err != nil {
		return Release{}, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	signed, err := st.Released()
	if err != nil {
		return Release{}, err
	}
	return releaseOf(signed), nil
}

// VerifyHeldRelease compares the release of the data directory dir with its versions, and with its
// signature by one of keys, which are public keys or the names of their files; without keys it does
// not verify the signature. It returns the release, and all that is wrong; without a release both are
// zero. The error says why it cannot be compared, and matches [ErrOptions] for a key.
func VerifyHeldRelease(dir string, keys ...string) (r Release, wrong []error, err error) {
	public, err := publicKeys(keys)
	if err != nil {
		return Release{}, nil, fmt.Errorf("%w: Key: %w", ErrOptions, err)
	}
	st, err := store.Read(dir)
	if err != nil {
		return Release{}, nil, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	signed, wrong, err := inspect.Release(st, public)
	return releaseOf(signed), wrong, err
}

// publicKeys reads keys, each of which is one or the name of its file.
func publicKeys(keys []string) (public []release.PublicKey, err error) {
	for _, text := range keys {
		key, err := release.ReadPublicKey(text)
		if err != nil {
			return nil, err
		}
		public = append(public, key)
	}
	return public, nil
}

// isSigned reports whether the release lists the version as its manifest has it.
func isSigned(st *store.Store, signed release.Signed, v shard.Version) bool {
	line, ok := signed.Release.Find(v)
	if !ok {
		return false
	}
	is, err := st.Describe(v)
	return err == nil && is == line
}
