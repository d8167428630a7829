package disk

// MaxName is the longest name of a file, in bytes, on the file systems in use.
const MaxName = 255
