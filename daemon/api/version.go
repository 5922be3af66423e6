// SPDX-License-Identifier: Apache-2.0

package api

// Version is Ripstop's version, set by the linker.
var Version = "0.1.0-dev"
