//go:build !unix

package store

import "io/fs"

func owner(fs.FileInfo) (uid, gid int) { return 0, 0 }

func ownerOf(fs.FileInfo) string { return "unknown" }

func isForeignToRoot(fs.FileInfo) bool { return false }

func isRootsAlone(fs.FileInfo) bool { return false }
