package cmd_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

// tensors makes a safetensors file: the size of its header, the header in JSON, and the tensors.
func tensors(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: tensors FILE PERCENT NAME:SIZE...")
	}
	percent, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, arg := range args[2:] {
		name, text, _ := strings.Cut(arg, ":")
		size, err := humanize.ParseBytes(text)
		ts.Check(err)
		var seed uint64
		for _, c := range []byte(name) {
			seed = 31*seed + uint64(c)
		}
		weights := synthetic.BF16(seed, int(size))
		if percent > 0 {
			weights = synthetic.Step(seed, weights, 2, percent/100)
		}
		header[name] = map[string]any{
			"dtype": "BF16", "shape": []uint64{size / 2}, "data_offsets": []int{len(data), len(data) + len(weights)},
		}
		data = append(data, weights...)
	}
	text, err := json.Marshal(header)
	ts.Check(err)
	file := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o644))
}
