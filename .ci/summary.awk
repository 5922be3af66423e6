# SPDX-License-Identifier: Apache-2.0
# Reads "go test -v": prints a line for each package, what tests that fail have
# printed, totals and seeds of random tests, and at the end what was skipped
# and why, and in a few lines what failed.
/^=== / { test = $3; top = test; sub(/\/.*/, "", top); next }
/^ +[a-z0-9_]+\.go:[0-9]+: / {
	text = $0; sub(/^ +/, "", text)
	last[test] = text
	if (text !~ / printed:$/ && said[test] < 8) { said[test]++; says[test] = says[test] "    " substr(text, 1, 400) "\n" }
	if (text ~ /-seed|packets|kills|flips/) totals[++nt] = "  " test ": " text
}
/^ *--- SKIP: / { skipped[++ns] = "  " $3 ": " last[$3] }
/^ *--- FAIL: / { failures[++nf] = "  " $3 "\n" says[$3] }
/^ *--- PASS: / { if ($1 == "---" && !/^ /) passed[$3] = 1; next }
{ lines[++n] = $0; of[n] = /^--- / ? $3 : top }
/^(ok|FAIL|\?)[ \t]+[^ \t]+\// {
	if ($1 == "FAIL") { failed = 1; for (i = 1; i <= n; i++) if (!(of[i] in passed)) print lines[i] }
	else if ($1 == "ok") {
		print
		for (i = 1; i <= nt; i++) print totals[i]
	}
	n = nt = 0; test = top = ""; delete last; delete passed; delete said; delete says; fflush()
}
END {
	for (i = 1; i <= n; i++) if (lines[i] !~ /^FAIL$/) print lines[i] # does not belong to a package: a build that broke
	if (ns) { print "skipped:"; for (i = 1; i <= ns; i++) print skipped[i] } else print "nothing was skipped"
	if (nf) { print "failed:"; for (i = 1; i <= nf; i++) printf "%s", failures[i] }
	exit failed
}
