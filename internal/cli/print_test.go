package cli

import "testing"

func TestSizesAreShownInThreeDigits(t *testing.T) {
	t.Parallel()
	for n, text := range map[int64]string{
		0: "0", 1: "1", 999: "999", 1000: "1K", 1024: "1K", 1536: "1.5K", 10 << 10: "10K", 512 << 20: "512M", 1000 << 20: "1G",
		64 << 30: "64G", 9*1024*1024 + 900*1024: "9.9M", 1 << 50: "1P", 1<<63 - 1: "8E",
	} {
		want(t, "a size", bytesText(n), text)
	}
}
