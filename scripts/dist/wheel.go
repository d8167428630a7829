package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// pythonName is the name of the Python package on an index, and in the names of its files.
const pythonName, wheelName = "shardcast-go", "shardcast_go"

// platforms are the tags of wheels with programs, which pip compares with its own: programs for Linux
// need no library, so they run with glibc and musl.
var platforms = map[string][]string{
	"linux/amd64":  {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "musllinux_1_1_x86_64"},
	"linux/arm64":  {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "musllinux_1_1_aarch64"},
	"darwin/amd64": {"macosx_12_0_x86_64"},
	"darwin/arm64": {"macosx_12_0_arm64"},
}

// anyPlatform is the tag of the wheel without programs, which finds those on the PATH.
const anyPlatform = "any"

// described is the form of a version by git describe: v1.2.3, or with -4-gabcdef behind it.
var described = regexp.MustCompile(`^v(\d+(?:\.\d+)*)(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)

// pythonVersion returns a version as Python writes it (PEP 440): 1.2.3, 1.2.3+4.gabcdef, or for a name that is
// no number 0+name.
func pythonVersion(version string) string {
	m := described.FindStringSubmatch(version)
	if m == nil {
		local := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(version), ".")
		return "0+" + strings.Trim(local, ".")
	}
	var local []string
	if m[2] != "" {
		local = append(local, m[2], "g"+m[3])
	}
	if m[4] != "" {
		local = append(local, "dirty")
	}
	if local == nil {
		return m[1]
	}
	return m[1] + "+" + strings.Join(local, ".")
}

// wheel returns the wheel of the Python package for a target, or for [anyPlatform], and its name. The
// directory bin has the programs of the target.
func (r release) wheel(target, bin string) (string, []byte, error) {
	tags := []string{anyPlatform}
	if target != anyPlatform {
		if tags = platforms[target]; tags == nil {
			return "", nil, fmt.Errorf("there is no tag of Python for %s", target)
		}
	}
	version := pythonVersion(r.version)
	info := wheelName + "-" + version + ".dist-info/"
	files, err := r.python(version, info)
	if err != nil {
		return "", nil, err
	}
	if target != anyPlatform {
		for _, command := range r.commands {
			data, err := os.ReadFile(filepath.Join(bin, command))
			if err != nil {
				return "", nil, err
			}
			name := wheelName + "-" + version + ".data/scripts/" + command
			files = append(files, file{name: name, mode: 0o755, data: data})
		}
	}
	var about strings.Builder
	fmt.Fprintf(&about, "Wheel-Version: 1.0\nGenerator: shardcast\nRoot-Is-Purelib: %t\n", target == anyPlatform)
	for _, tag := range tags {
		fmt.Fprintf(&about, "Tag: py3-none-%s\n", tag)
	}
	files = append(files, file{name: info + "WHEEL", mode: 0o644, data: []byte(about.String())})
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	files = append(files, record(files, info+"RECORD"))
	data, err := zipped(files, r.time)
	return fmt.Sprintf("%s-%s-py3-none-%s.whl", wheelName, version, strings.Join(tags, ".")), data, err
}

// python returns the files of the package, and of info but WHEEL and RECORD.
func (r release) python(version, info string) ([]file, error) {
	var files []file
	sources, err := filepath.Glob("python/shardcast/*")
	if err != nil {
		return nil, err
	}
	for _, path := range sources {
		if ext := filepath.Ext(path); ext != ".py" && ext != ".typed" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if filepath.Base(path) == "_version.py" {
			data = regexp.MustCompile(`".*"\n$`).ReplaceAll(data, fmt.Appendf(nil, "%q\n", version))
		}
		files = append(files, file{name: "shardcast/" + filepath.Base(path), mode: 0o644, data: data})
	}
	readme, err := os.ReadFile("python/README.md")
	if err != nil {
		return nil, err
	}
	metadata := fmt.Appendf(nil, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n"+
		"Summary: Large files and directories from one machine to many\nLicense: Apache-2.0\n"+
		"Requires-Python: >=3.9\nDescription-Content-Type: text/markdown\n\n%s", pythonName, version, readme)
	licence, err := os.ReadFile("LICENSE")
	return append(files,
		file{name: info + "LICENSE", mode: 0o644, data: licence},
		file{name: info + "METADATA", mode: 0o644, data: metadata},
	), err
}

// record returns the list of files of a wheel, as the file name, which lists itself without a digest.
func record(files []file, name string) file {
	var b bytes.Buffer
	for _, f := range files {
		sum := sha256.Sum256(f.data)
		fmt.Fprintf(&b, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.data))
	}
	fmt.Fprintf(&b, "%s,,\n", name)
	return file{name: name, mode: 0o644, data: b.Bytes()}
}

// zipped returns a zip of files in their order, all of the same time, with their modes.
func zipped(files []file, at time.Time) ([]byte, error) {
	if first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); at.Before(first) {
		at = first // the form of a zip has no earlier time
	}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		header.SetMode(f.mode) // by which pip makes programs executable
		w, err := zw.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := zw.Close()
	return b.Bytes(), err
}
