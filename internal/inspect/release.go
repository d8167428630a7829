package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// Release compares the release of st with the manifests of its versions and with the
// distribution, and returns it and all that is wrong; without a release both are zero. Unless keys
// are nil, one of them has to have signed the release. The error says why it cannot be compared now.
func Release(st *store.Store, keys []release.PublicKey) (signed release.Signed, wrong []error, err error) {
	for range mostReleases {
		signed, wrong, err = releaseNow(st, keys)
		if now, _ := st.Released(); err != nil || wrong == nil || bytes.Equal(now.Bytes(), signed.Bytes()) {
			break // otherwise a writer was at work
		}
	}
	return signed, wrong, err
}

// mostReleases is how many releases in a row are compared that a writer replaces meanwhile.
const mostReleases = 10

// releaseNow is [Release] once.
func releaseNow(st *store.Store, keys []release.PublicKey) (signed release.Signed, wrong []error, err error) {
	signed, err = st.Released()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return release.Signed{}, nil, nil
	case errors.Is(err, release.ErrForm):
		return release.Signed{}, []error{err}, nil
	case err != nil:
		return release.Signed{}, nil, err
	}
	note := func(err error) { wrong = append(wrong, fmt.Errorf("%s: %w", release.FileName, err)) }
	err = nil
	for _, key := range keys {
		if err = signed.Verify(key); err == nil {
			break
		}
	}
	if err != nil {
		note(err)
	}
	entries, err := st.Distribution()
	if err != nil {
		return signed, wrong, err
	}
	offered := make(map[shard.Version]bool)
	for _, e := range entries {
		line, ok := signed.Release.Find(e.Version)
		offered[e.Version] = ok
		if !ok || line.Withdrawn || line.Digest != e.Digest {
			note(fmt.Errorf("%s is not in it as %s has it", e.Version, distfile.FileName))
		}
	}
	for _, line := range signed.Release.Entries {
		if line.Withdrawn {
			continue
		}
		is, err := st.Describe(line.Version)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, shard.ErrManifest):
			note(fmt.Errorf("%s: %w", line.Version, err))
		case err != nil:
			return signed, wrong, err
		case is != line:
			note(fmt.Errorf("%s/manifest.json is another one than the release states: %s", line.Version,
				strings.Join(differences(line, is), ", ")))
		case !offered[line.Version]:
			note(fmt.Errorf("%s is listed, and %s lacks it", line.Version, distfile.FileName))
		}
	}
	return signed, wrong, nil
}

// differences are the fields in which two lines differ.
func differences(want, is release.Entry) (names []string) {
	if want.Manifest != is.Manifest {
		names = append(names, "manifest")
	}
	if want.Digest != is.Digest {
		names = append(names, "sha256")
	}
	if want.Size != is.Size {
		names = append(names, "size")
	}
	return names
}
