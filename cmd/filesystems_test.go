package cmd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Variables of the process that runs stories on another file system.
const (
	workVariable     = "SHARDCAST_STORIES_IN" // the directory of the stories' files
	binariesVariable = "SHARDCAST_STORIES_OF" // the directory of the commands
)

// onEach are the stories that depend on the file system: locks, links, renames, holes, and
// programs that are killed.
var onEach = []string{
	"fewer_versions", "follow_beside", "follow_keep", "leftovers", "output_places", "output_refused", "planted",
	"resume", "tree_killed", "watch_marker",
}

// cannotMount is the exit code of a shell that could not mount a file system.
const cannotMount = 77

// fileSystems are the programs, from Debian, and the shell commands that mount a file system at
// $DIR, and the stories that it leaves out. The directory beside it, $DIR.spare, is on the disk.
var fileSystems = map[string]struct{ program, mount, without string }{
	"ext4": {
		program: "mkfs.ext4",
		mount: "truncate -s 2G $DIR.spare/image && mkfs.ext4 -q $DIR.spare/image && " +
			"mount -o loop $DIR.spare/image $DIR",
	},
	"XFS": {
		program: "mkfs.xfs",
		mount: "truncate -s 2G $DIR.spare/image && mkfs.xfs -q $DIR.spare/image && " +
			"mount -o loop $DIR.spare/image $DIR",
	},
	"Btrfs": {
		program: "mkfs.btrfs",
		mount: "truncate -s 2G $DIR.spare/image && mkfs.btrfs -q $DIR.spare/image && " +
			"mount -o loop $DIR.spare/image $DIR",
	},
	"tmpfs": {program: "mount", mount: "mount -t tmpfs none $DIR"},
	"overlay": {
		program: "mount",
		mount: "mount -t tmpfs none $DIR.spare && mkdir $DIR.spare/lower $DIR.spare/upper $DIR.spare/work && " +
			"mount -t overlay -o lowerdir=$DIR.spare/lower,upperdir=$DIR.spare/upper,workdir=$DIR.spare/work none $DIR",
	},
	// It reports no holes, which that story counts.
	"FUSE": {program: "bindfs", mount: "bindfs $DIR.spare $DIR", without: "resume"},
}

func TestStoriesOnOtherFileSystems(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getenv(workVariable) != "" {
		t.Skip("this is Linux alone, and once")
	}
	for name, fs := range fileSystems {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(fs.program); err != nil {
				t.Skipf("%s is not installed: see scripts/others", fs.program)
			}
			dir := filepath.Join(t.TempDir(), "mounted")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Mkdir(dir+".spare", 0o700))
			stories := slices.DeleteFunc(slices.Clone(onEach), func(story string) bool { return story == fs.without })
			// In namespaces of its own, which take the mounts and the processes with them.
			run := exec.CommandContext(t.Context(), "unshare",
				"--mount", "--pid", "--mount-proc", "--fork", "--kill-child",
				"sh", "-c", "{ "+fs.mount+"; } || exit 77; \"$@\"", "sh",
				os.Args[0], "-test.run=^TestScripts$/^("+strings.Join(stories, "|")+")$")
			run.Env = append(os.Environ(),
				"DIR="+dir, "TMPDIR="+dir, workVariable+"="+dir, binariesVariable+"="+binaries)
			log, err := run.CombinedOutput()
			var exit *exec.ExitError
			refused := errors.As(err, &exit) && exit.ExitCode() == cannotMount
			if refused || strings.HasPrefix(string(log), "unshare: ") {
				t.Skipf("this user may not mount such a file system: %s", log)
			}
			require.NoError(t, err, "%s", log)
		})
	}
}
