package credential_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), mode))
	require.NoError(t, os.Chmod(file, mode))
}
