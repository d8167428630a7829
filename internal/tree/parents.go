package tree

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"sync"
)

// maxDirs bounds the directories that are open at the same time, but for those in use.
const maxDirs = 32

// parents are the directories of a tree, of which those that were used last are open: to open
// each file from the top would open all directories on the way each time. Its methods may be
// called from any goroutine.
type parents struct {
	root *os.Root

	mu   sync.Mutex // guards open, and the users of each
	open map[string]*shared
}

// shared is an open directory that several goroutines use.
type shared struct {
	dir   *parent
	users int
}

// acquire returns the directory of the path name, open, and the name in it. The caller releases
// it.
func (p *parents) acquire(name string) (*shared, string, error) {
	dir, base := path.Split(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.open[dir]
	if s == nil {
		if len(p.open) >= maxDirs {
			if err := p.closeIdle(); err != nil {
				return nil, "", err
			}
		}
		opened, err := openParent(p.root, filepath.FromSlash(path.Clean(dir)))
		if err != nil {
			return nil, "", err
		}
		s = &shared{dir: opened}
		if p.open == nil {
			p.open = make(map[string]*shared)
		}
		p.open[dir] = s
	}
	s.users++
	return s, base, nil
}

// release ends a use of s.
func (p *parents) release(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.users--
}

// closeIdle closes the directories without a user.
func (p *parents) closeIdle() (err error) {
	for name, s := range p.open {
		if s.users == 0 {
			delete(p.open, name)
			err = errors.Join(err, s.dir.close())
		}
	}
	return err
}

// close closes the directories, of which none has a user.
func (p *parents) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeIdle()
}
