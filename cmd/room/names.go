package main

import (
	"strings"
	"unicode"
)

// maxName is the length of a name in characters.
const maxName = 40

// colors can be told apart, and read on light and on dark.
var colors = []string{
	"#d9480f", "#1c7ed6", "#2b8a3e", "#ae3ec9", "#c2255c",
	"#0c8599", "#b08900", "#7048e8", "#5c940d", "#e64980",
}

var (
	moods   = []string{"Calm", "Merry", "Quick", "Bright", "Gentle", "Bold", "Curious", "Sunny", "Witty", "Brave", "Kind"}
	animals = []string{
		"Otter", "Heron", "Fox", "Badger", "Finch", "Lynx", "Hare",
		"Puffin", "Marten", "Swift", "Seal", "Owl", "Wren",
	}
)

// friendlyName is the name of visitor n until they choose one: the first 143 differ.
func friendlyName(n int) string {
	return moods[n%len(moods)] + " " + animals[n%len(animals)]
}

// cleanName makes one short line of what a visitor typed; it may come out empty.
func cleanName(name string) string {
	name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, ""), func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsGraphic(c)
	}), " ")
	if characters := []rune(name); len(characters) > maxName {
		name = strings.TrimSpace(string(characters[:maxName]))
	}
	return name
}
