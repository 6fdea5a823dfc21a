// Package cli is the command line: flags, environment, the subcommands, and what
// they print. It is where the parts of Jetway are put together; cmd/jetway adds
// only signals and the exit code.
//
// What holds:
//
//   - Standard output is for what was asked for, standard error for everything
//     else: one line of error, logs, notes. With --json each line, or the whole
//     list, of standard output is JSON.
//   - Every flag has an environment variable, shown in its help.
//   - Every error is one line, `jetway: what (kind): what to do`, and an exit
//     code of [ExitFailed], [ExitUsage], [ExitUnavailable] or [ExitInterrupted].
//
// Who closes what: a command closes the connections it made before it returns.
// A role's command returns when its context ends and the role has stopped.
package cli
