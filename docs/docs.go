// SPDX-License-Identifier: Apache-2.0

// Package docs carries the pages of this folder, so that the console can show
// them on machines without the source.
package docs

import (
	"embed"
	"io/fs"
)

//go:embed getting-started.md faq.md backend-access.md semantics.md
var pages embed.FS

// Pages are the markdown pages that the console shows, by file name.
func Pages() fs.FS { return pages }
