# Messages of the command line. Lower-case fragments; what, which, then the cause.

## Words
none = none
yes = yes
no = no
never = never
kind-label = label
kind-group = group
kind-post = post
kind-person = person
kind-rule = rule
kind-folder = designated folder
kind-terminal = terminal
kind-preset = preset

## Causes of the operating system
cause-not-found = no such file or directory
cause-permission-denied = permission denied
cause-connection-refused = connection refused
cause-storage-full = no space left on the disk
cause-quota-exceeded = the disk quota is used up
cause-read-only = the file system is read-only
cause-is-a-directory = it is a folder
cause-not-a-directory = a part of the path is not a folder
cause-unexpected-end = it ended too early

## Prompts
prompt-login = Login name:{" "}
prompt-password = Password:{" "}
prompt-totp = Authenticator code (empty if none):{" "}
prompt-new-password = New password:{" "}
prompt-again = Again:{" "}

## login, logout, whoami
logged-in = logged in as { $login } ({ $name }), until { $expires }
logged-out = logged out
whoami-login = login
whoami-name = name
whoami-memberships = memberships
whoami-roles = administrator roles
whoami-second-factor = second factor
whoami-expires = until

## status
status-program = daemon
status-terminal = terminal
status-organisation = organisation
status-key-server = key server
status-contact = last contact
status-contact-lost = { $seen }; now failing: { $error }
status-certificate = certificate until
status-bulletin = bulletin
status-bulletin-value = no. { $number } of { $issued }
status-no-folders = no designated folder on this terminal
status-watched = watched
status-watched-by = watched ({ $source })
status-coverage = sealed { $share } %; not sealed now: { $plain }, the oldest since { $since }
status-not-watched = NOT WATCHED: { $error }
status-folder = folder { $path } ({ $label }): { $watched }; { $sealed } files ({ $bytes } bytes) sealed, { $waiting } waiting; last sweep { $swept }
status-sweep = sweep: { $files } files seen, { $rate } a second; about { $done } % done, { $left }
status-sealing = sealing: { $rate } files a second, { $left }
status-sweep-left = about { $left } left
status-sweep-left-unknown = time left not known yet
status-all-sealed = no file is left unsealed
status-unsealed = { $count } not sealed:
status-next-try = next try { $time }
status-since = for { $age }, since { $time }, tries: { $tries }
unit-days = { $count } d
unit-hours = { $count } h
unit-minutes = { $count } min
unit-seconds = { $count } s
status-left-alone = left alone
unsealed-in-use = in use by another program
unsealed-hard-linked = has other hard links
unsealed-immutable = immutable or append-only
unsealed-no-space = the disk is full
unsealed-unreadable = cannot be read
unsealed-changed = changed while it was sealed
unsealed-other-file-system = lies on another file system
unsealed-foreign-envelope = is a damaged envelope or one of another organisation
unsealed-read-back-failed = what was written did not read back; the original was kept
unsealed-no-key = the label has no key here
unsealed-system = error of the operating system

## info
info-not-sealed = { $path }: not sealed, { $size } bytes
info-label = label
info-label-value = { $label } (level { $level })
info-owner-group = owner group
info-unknown-group = group { $id }
info-size = size
info-size-value = { $size } bytes, { $stored } on disk
info-sealed = sealed
info-sealed-value = { $time } by terminal { $terminal }
info-recipients = recipients
info-recipient-label = label key { $id } ({ $kind })
info-recipient-recovery = recovery key { $id } ({ $kind })
info-recipient-unknown = key { $id } ({ $kind })
info-file = file id
info-may = I may
info-may-nothing = nothing
info-may-unknown = not known: { $why } [{ $code }]; { $hint }
info-may-unasked = not known: log in with "tobari login" first
reason-allow = allowed { $rights } to { $membership } by rule { $rule }
reason-deny = denied { $rights } to { $membership } by rule { $rule }

## cat, unseal, verify, seal, zip
verified = { $path }: whole and authentic, { $bytes } bytes
unsealed = { $path }: saved unsealed, { $bytes } bytes
sealed = { $path }: sealed as { $label }
rewritten = { $done } changed, { $current } were as wanted, { $skipped } not sealed, { $failed } failed
already-sealed = { $path }: already sealed
zipped = { $path }: { $entries } files, { $bytes } bytes
zip-password = password, shown this once: { $password }
warning-refused = { $path }: { $why }
warning-designated = { $path } lies in a designated folder and will be sealed there
warning-interrupted-tail = { $path }: { $bytes } bytes at its end come from a write that was interrupted, and were left out
warning-skipped = left out, not a regular file: { $path }
warning-zipcrypto = ZipCrypto is weak: whoever gets the archive can open it without the password
warning-short-password = the password is shorter than { $length } characters; an archive can be attacked without limit
warning-refresh = the change is made, but this terminal has not heard of it yet: { $why }

## drill
drill-role-outside = The same user, with programs outside a session
drill-role-inside = A program in a session
drill-role-other = Another user of this host
drill-role-view = Somebody who may view and no more
drill-got-plaintext = plaintext
drill-got-ciphertext = ciphertext
drill-got-nothing = nothing
drill-got-not-tried = not tried
drill-leak = LEAK
drill-not-stopped = not stopped
drill-open-question = ?
drill-held = held
drill-not-tried = Not tried by this command
drill-sum = tried { $tried } of { $all } ways; leaks: { $leaks }

## scan-coverage
coverage-files = files
coverage-bytes = bytes
coverage-sealed = sealed
coverage-plain = not sealed
coverage-damaged = damaged envelope
coverage-foreign = envelope of another organisation
coverage-unreadable = unreadable
coverage-share = sealed: { $files } % of files, { $bytes } % of bytes
coverage-oldest = oldest not sealed: { $path }, from { $time } ({ $days } d { $hours } h ago)

## admin
column-name = NAME
column-path = PATH
column-level = LEVEL
column-key-kind = KEY KIND
column-generation = GENERATION
column-legacy-zip = LEGACY ZIP
column-key = KEY
column-id = ID
column-rank = RANK
column-login = LOGIN
column-person-name = NAME
column-memberships = MEMBERSHIPS
column-roles = ROLES
column-disabled = SHUT OUT
column-totp = TOTP
column-label = LABEL
column-groups = GROUPS
column-posts = POSTS
column-effect = EFFECT
column-conditions = CONDITIONS
column-note = NOTE
column-owner-group = OWNER GROUP
column-terminal = TERMINAL
column-exclude = LEFT ALONE
column-zone = ZONE
column-tags = TAGS
column-gateway = GATEWAY
column-revoked = REVOKED
column-frozen = FROZEN
column-kind = KIND
column-subject = WHAT
column-reason = REASON
column-by = BY
column-since = SINCE
column-certificate = CERTIFICATE UNTIL
column-seen = LAST CONTACT
column-protection = KEYS KEPT BY
column-leases = LEASES OUT
column-coverage = SEALED
terminal-sealed = { $share } %
terminal-sealed-but = { $share } %, { $plain } not, the oldest for { $age }
protection-none = nothing
protection-machine = machine
protection-tpm = TPM
column-title = TITLE
column-labels = LABELS
removed = removed { $id }
otpauth-once = the address above is the authenticator secret; it is shown this once
bulletin-in-force = bulletin { $number } of { $issued } is in force
token-made = good until { $expires }; the terminal pins the CA with --ca-sha256 { $fingerprint }
preset-applied = preset { $preset } applied; labels: { $labels }; posts: { $posts }; rules: { $rules }
audit-number = no.
audit-time = time
audit-act = act
audit-person = person
audit-object = file or object
audit-more = right, reason, detail
audit-exported = exported { $count } records up to no. { $last }
audit-export-verified = the export holds: { $count } records, no. { $first } to { $last } of { $size }; witnessed checkpoints compared: { $witnessed }
warning-restored = at no. { $sequence } an older database was taken up; records up to no. { $last } that a witness had seen were given up
audit-verified = the chain holds: { $count } records up to no. { $last }, hash { $hash }

## Errors of the daemon and the key server, by problem code
error-invalid-request = a value is not allowed ({ $field }): { $detail }
hint-invalid-request = correct the value and try again
error-unreadable-envelope = the sealed file cannot be read: its header is damaged, or it is of another organisation or under an unknown key
hint-unreadable-envelope = compare it with a copy or a backup; look at "tobari info" for the organisation it names
error-bad-credentials = login name, password or authenticator code is wrong
hint-bad-credentials = try again; after several failures the account is locked for a while
error-not-logged-in = nobody is logged in, or the session has ended
hint-not-logged-in = log in with "tobari login"
error-terminal-not-accepted = the key server does not accept this terminal: { $detail }
hint-terminal-not-accepted = ask an administrator whether the terminal was revoked; enrol it again with "tobarid enrol"
error-terminal-frozen = an administrator has frozen this terminal: nothing is opened on it for now
hint-terminal-frozen = ask a terminal administrator to let it in again with "tobari admin terminal unfreeze"
error-bad-enrolment-token = the enrolment token is unknown, used or expired
hint-bad-enrolment-token = make a new one with "tobari admin token"
error-not-administrator = your administrator roles do not include this
hint-not-administrator = see your roles with "tobari whoami"; ask somebody who has the role
error-second-person-needed = this widens access, so a second person has to approve it
hint-second-person-needed = make a request with --request REASON; somebody else approves it with "tobari admin request approve"
error-second-person-needed-unseal = as many files were unsealed within the hour as one person may: for more, a second person has to approve it
error-step-up-needed = this needs a fresh code of your authenticator
hint-step-up-needed = show one with "tobari admin step-up"; it counts for five minutes
error-invariant-broken = the change breaks the invariant { $field }: { $detail }
hint-invariant-broken = change something else, or the invariant first: "tobari admin invariant list"
error-not-gateway = this terminal may not speak for other people
hint-not-gateway = a terminal administrator marks it with "tobari admin terminal set TERMINAL --gateway"
error-right-refused = refused by the policy; what you may do here: { $rights }
error-right-refused-label = the policy does not give you { $right } on { $label } here and now; what you may do: { $rights }
error-right-refused-right = the policy does not give you { $right } here and now; what you may do: { $rights }
error-right-refused-legacy = files of the label { $label } may not leave in the weak legacy encryption of ZIP
error-right-refused-lease = not lent: a lease needs "offline" and each right that it lends. { $detail }
hint-right-refused = see why with "tobari info"; ask the department that owns the file
error-revoked = an administrator has revoked the file or its label: it is opened for nobody until that is lifted
hint-revoked = ask the administrators; they see why with "tobari admin revoke list"
error-key-retired = the key for which the file was sealed was retired: it is opened with the organisation's recovery key alone
hint-key-retired = ask the administrators; they open it with "tobari-keyserver recovery open"
error-not-found = not found ({ $field }): { $detail }
hint-not-found = list what there is with "tobari admin ... list"
error-conflict = the name is taken, or the object is in use: { $detail }
hint-conflict = choose another name, or remove first what uses it
error-too-large = the request is too large: { $detail }
hint-too-large = split it into smaller parts
error-locked-out = too many failed logins; locked for { $seconds } seconds
hint-locked-out = wait { $seconds } seconds and log in with the right password, or ask an administrator
error-too-many-requests = too many requests; try again in { $seconds } seconds
hint-too-many-requests = wait { $seconds } seconds
error-internal = internal error: { $detail }
hint-internal = report it with the request id { $request } and the logs of that time
error-audit-unavailable = the key server cannot write its audit log, so it releases no key
hint-audit-unavailable = try again later; tell the administrator of the key server
error-store-unavailable = the key server cannot reach its database
hint-store-unavailable = try again later; tell the administrator of the key server
error-outcome-unknown = it is not known whether the change was made: { $detail }
hint-outcome-unknown = it may have been made, or still be in work: look with "show", "list" or "tobari admin policy history" before you do it again
waiting-for-key-server = still waiting for the key server ({ $seconds } s)
error-key-server-unreachable = the key server cannot be reached: { $detail }
hint-key-server-unreachable = check the network and "tobari status"; sealing goes on, opening needs the key server
error-certificate-expired = the certificate of this terminal has expired
hint-certificate-expired = enrol the terminal again with "tobarid enrol"; see "tobari status"
error-not-configured = this terminal is not set up for that: { $detail }
hint-not-configured = see "roles" in the configuration of tobarid
error-corrupt-envelope = the sealed contents are damaged, were cut or were changed
error-corrupt-envelope-whole = the sealed contents are damaged, were cut or were changed; nothing of them was released
error-corrupt-envelope-tail = the sealed contents are damaged, were cut or were changed; only the first { $bytes } bytes are authentic
hint-corrupt-envelope = what was not checked was not written; restore the file from a backup
error-local-io = a local file could not be read or written: { $detail }
hint-local-io = check the permissions and the disk; nothing half-written was left

## Errors of this program
error-daemon-unreachable = the daemon does not answer at { $path }: { $cause }
hint-daemon-unreachable = start tobarid ("systemctl start tobarid"), or name its socket with TOBARI_SOCKET or --socket
error-daemon-lost = the daemon went away in the middle: { $cause }
hint-daemon-lost = look at its log ("journalctl -u tobarid") and try again
error-daemon-answer = the answer of the daemon or the key server is not understood
hint-daemon-answer = check that tobari, tobarid and tobari-keyserver are of the same release
error-daemon-version = the daemon (tobarid { $program }) speaks version { $version } of the protocol, this program another
hint-daemon-version = install tobari and tobarid of the same release and restart tobarid
error-no-space = no space left: { $path }: { $cause }
hint-no-space = make room or choose another place; nothing half-written was left
error-broken-pipe = the reader of standard output has gone
hint-broken-pipe = nothing to do
error-exists = { $path } exists and is not overwritten
hint-exists = choose another name, or remove it first
error-not-regular = { $path } is not a regular file
hint-not-regular = name a regular file
error-hard-linked = { $path } has other hard links, which would keep the old contents
hint-hard-linked = remove the other links, or write to another file with -o
error-not-sealed = { $path } is not sealed
hint-not-sealed = read it as it is, or seal it with "tobari seal"
error-not-utf8 = the name of { $path } is not UTF-8
hint-not-utf8 = rename the file (for Shift_JIS names: convmv -f cp932 -t utf8 --notest FILE) and try again
error-file-changed = { $path } was changed by somebody else meanwhile; it was left as it is
hint-file-changed = try again when nobody works on it
error-same-name = two files would be { $name } in the archive
hint-same-name = name the folder above them instead, or make two archives
error-nothing-to-send = there is no regular file to put into the archive
hint-nothing-to-send = name files, or folders with files in them
error-seal = failed to seal { $path }: { $detail }
hint-seal = the file is as it was; check "tobari status" and try again
error-read-back = the sealed copy of { $path } does not read back; the original was kept
hint-read-back = memory, disk or processor may be faulty: check the machine before sealing more
error-no-label = no label for { $path }, which lies in no designated folder
hint-no-label = give one with --label; there are: { $known }
error-unknown-name = there is no { $kind } named { $name }
hint-unknown-name = there are: { $known }
hint-unknown-name-person = 'tobari admin person list' shows who there is
hint-unknown-name-terminal = 'tobari admin terminal list' shows which there are
hint-unknown-name-lease = 'tobari admin lease list' and 'tobari lease list' show which there are and in which state
hint-unknown-name-request = 'tobari admin request list' shows which there are
error-ambiguous-name = several of kind { $kind } are named { $name }
hint-ambiguous-name = name one of them by its path or id: { $known }
error-no-terminal = a password is needed and there is no terminal to ask on
hint-no-terminal = give it on standard input with --password-stdin
error-passwords-differ = the two passwords differ
hint-passwords-differ = try again
error-session-program = the program cannot be started: { $detail }
hint-session-program = a session shows the programs of the system and of your home, not those of other places ("visible" in the configuration of tobarid)
error-session-below = this session has written to a file of a lower label and can read this one no more; open it in a session of its own
error-session-relabel = this session has read a file of a higher label; you may not raise the label of this one, so nothing can be written to it here
error-session-wider = this session has read or written files whose rights do not fit this one; open it in a session of its own
error-session-print = this session may print, and this file may not be printed; open it in a session without --print
error-session-plain = a session writes nothing that is not sealed, and this file is not
error-not-designated = { $path } lies in no designated folder of this terminal
hint-not-designated = a session shows only designated folders opened ("tobari status"); read the file with "tobari cat"
error-no-application = no application is known for { $path } ({ $kind })
hint-no-application = name one with --with
error-leaked = { $ways } ways brought plaintext that is not to be had
hint-leaked = see the lines marked LEAK; docs/leak-matrix.md says what holds each of them up
error-not-covered = { $open } of { $all } files are not known to be sealed
hint-not-covered = list them with --list; see "tobari status --unsealed" for why
error-export-line = line { $line } of the export does not belong there
hint-export-line = export anew; keep this file if it should have been whole
error-export-cut = the export is cut: its end is missing
hint-export-cut = export anew, or bring the file from where it was kept
error-export-count = the export has { $found } records, but its end says { $said }
hint-export-count = export anew; keep this file if it should have been whole
error-export-unsigned = the export is not signed by this key: { $detail }
hint-export-unsigned = check that the key is the one that was noted for this organisation
error-export-altered = a record between no. { $first } and no. { $last } was altered, dropped, added or moved
hint-export-altered = keep the file as it is and compare it with another export and with the witnesses
error-export-end-cut = the log ends at no. { $size }, but a witness saw no. { $witnessed }: its end was cut off
hint-export-end-cut = keep the key server's database as it is; what is missing may be in a later backup
error-export-rewritten = a witness saw other records among the first { $size }: the log was rewritten
hint-export-rewritten = keep the key server's database as it is and compare it with backups
error-witness-file = what the witness kept cannot be used: { $detail }
hint-witness-file = name the witness's own file of checkpoints, of this organisation
error-usage-audit-act = '{ $detail }' is no kind of act
hint-usage-audit-act = give one such as grant, refusal, login, create, update, delete
error-usage-audit-time = '{ $detail }' is no time
hint-usage-audit-time = write it like 2026-11-21 or 2026-11-21T09:00
error-usage-audit-key = '{ $detail }' is not the key of an audit log
hint-usage-audit-key = give what "tobari audit key" printed
error-audit-broken = the chain of the audit log breaks at record { $sequence }
hint-audit-broken = keep the key server's database as it is and compare it with the witness copy or a backup
error-io-open = failed to open { $path }: { $cause }
hint-io-open = check the path and its permissions
error-io-read = failed to read { $path }: { $cause }
hint-io-read = check the file and the disk
error-io-write = failed to write { $path }: { $cause }
hint-io-write = check the disk; nothing half-written was left
error-io-create = failed to create { $path }: { $cause }
hint-io-create = check that the folder exists and that you may write in it
error-io-attributes = failed to keep owner, mode, times or access list for { $path }: { $cause }
hint-io-attributes = the file is as it was; work as its owner, or write to another file with -o
error-io-replace = failed to replace { $path }: { $cause }
hint-io-replace = the file is as it was; write to another file with -o
error-usage-command-line = { $detail }
hint-usage-command-line = see "tobari --help"
error-usage-one-output = -o names one file, but there are { $detail } inputs
hint-usage-one-output = use --output-dir or --in-place, or one input at a time
error-usage-password-empty = the password is empty
hint-usage-password-empty = give it on the first line of standard input, or type it
error-usage-membership = { $detail } is not a membership
hint-usage-membership = write GROUP:POST, as 総務部/人事課:課長
error-usage-post-selector = { $detail } selects no posts
hint-usage-post-selector = write any, the name of a post, or rank>=N with N from 0 to 1000
error-usage-nothing-to-set = nothing to change was given
hint-usage-nothing-to-set = see the flags with --help
error-usage-name-slash = { $detail } is a path, and --parent is given too
hint-usage-name-slash = give either the path or --parent
error-usage-login-missing = with --password-stdin the login name must be given
hint-usage-login-missing = write "tobari login LOGIN --password-stdin"

## admin explain, policy, invariant, request
kind-invariant = invariant
kind-request = request
prompt-fresh-totp = Authenticator code:{" "}
explain-allowed = { $login } may { $right } files of { $label }
explain-refused = { $login } may not { $right } files of { $label }
explain-disabled = the person is shut out
explain-no-rule = no rule gives the right
policy-restored = the policy is as in version { $version } again
unseal-limit-set = one person may now unseal this many files within an hour: { $files }
unlimited = any number
second-person-on = what widens access needs a second person from now on
second-person-off = what widens access needs nobody else from now on
stepped-up = the code counts until { $time }
request-made = done: { $summary }
request-pending = waits for a second person
request-approved = approved
request-refused = refused
request-applied = done
request-expired = expired
diff-version = compared with version { $version } of the policy; + is gained, - is lost
diff-nothing = nobody gains or loses a right
diff-unknown = there are too many cases to compare; nothing is known of what is gained and lost
diff-more = and { $count } more, see --json
diff-leases = of the leases that are out it takes back { $ended } and narrows { $narrowed }:
diff-leases-more = and { $count } more leases
diff-lease-parts = and { $count } more, see --json
column-lost = LOST
column-left = LEFT
diff-any-zone = any (other)
diff-breaks = breaks the invariant { $name }: { $group } { $post } would have { $right } on { $label }
diff-second-person = needs a second person: { $why }
widens-rights = gives rights
widens-unknown = cannot be compared
widens-keys = changes the key of a label
widens-label = lowers a label's protection
widens-administrator = makes or changes an administrator
widens-invariant = takes an invariant away or changes it
widens-second-person = does away with the second person
widens-revocation = lifts what was stopped
widens-lease = lends files of the highest label
widens-unsealing = lets somebody unseal many files
case-own = files of the own group
case-above = files of a group above
case-group = files of group { $group }
case-other = files of other groups
case-with-factor = with second factor
case-without-factor = without second factor
case-protection = keys kept by { $protection }
case-tags = tags { $tags }
case-from = from { $time }
column-version = VERSION
column-retired = RETIRED KEYS
column-bulletin-hours = CONFIRMED WITHIN (H)
column-second-person = SECOND PERSON
column-approvers = APPROVERS
column-unseal-files = UNSEALED FILES
column-unseal-windows = MORE FOR A WHILE
column-time = TIME
column-act = ACT
column-object = OBJECT
column-detail = DETAIL
column-state = STATE
column-requested-by = BY
column-expires = UNTIL
column-summary = WHAT
column-decided = DECIDED
column-group = GROUP
column-post = POST
column-rights = RIGHTS
column-cases = ONLY FOR
error-usage-no-policy-act = --dry-run, --request and --reason are for changes of labels, groups, posts, people, rules and invariants, and for what takes two people
hint-usage-no-policy-act = run the command without them
error-usage-label-scope = { $detail } selects no labels
hint-usage-label-scope = write any, the name of a label, or level>=N with N from 0 to 1000

## leases

error-lease-refused = { $field ->
    [ended] the lease has ended: { $detail }
    [not-begun] the lease has not begun: { $detail }
    [used-up] the lease is used up: { $detail }
    [clock] the clock of this terminal cannot be believed: { $detail }
    [right] the lease does not include the right "{ $right }"
    [file] the lease is for this file under another label or owner
    [bulletin] the organisation has not confirmed its revocations to this terminal for too long: { $detail }
    [state] the leases of this terminal cannot be believed: { $detail }
   *[other] the lease does not allow this: { $detail }
}
hint-lease-refused = see "tobari lease list"; with the key server, ask for another lease. After a wrong clock or too old a bulletin, connect to the key server or import a bulletin; where the leases cannot be believed, the terminal must be enrolled again
error-usage-nothing-to-lend = none of these is a sealed file
hint-usage-nothing-to-lend = name sealed files, or folders that have some
error-usage-lease-of-files = the lease { $detail } is for files, not for a label
hint-usage-lease-of-files = ask for a new lease; with "tobari lease request --label" it can be refilled
error-usage-no-lease-of-label = you hold no lease of a label on this terminal
hint-usage-no-lease-of-label = see "tobari lease list"; ask for one with "tobari lease request --label"
error-usage-which-lease = you hold several leases of labels on this terminal: { $detail }
hint-usage-which-lease = name one, as "tobari lease refill ID"
error-conflict-refill = { $field ->
    [refill-terminal] the lease is of another terminal: refill it there
    [refill-label] the lease is for files, not for a label, and cannot be refilled
    [refill-over] the lease was not issued, or is over, and cannot be refilled
    [refill-second-person] a second person has to agree to what the lease would lend then, and cannot by refilling it
   *[other] the lease cannot be refilled: { $detail }
}
error-conflict-lease-state = what this terminal says of its leases was not believed, and its leases are over
hint-conflict-lease-state = the terminal has to be enrolled anew: stop tobarid, "tobarid enrol --force" with a new token, and start it
hint-conflict-refill = see "tobari lease list"; ask for a new lease
error-conflict-lease = { $field ->
    [lease-is-requested] the lease is asked for, and nobody has decided on it yet
    [lease-is-issued] the lease has been issued already
    [lease-is-refused] the lease has been refused already
    [lease-is-returned] the lease has been given back already
    [lease-is-revoked] the lease has been taken back already
   *[other] the lease is in another state: { $detail }
}
hint-conflict-lease = see "tobari admin lease show"
kind-lease = lease
warning-lease-exchange = the leases are shown as this terminal knows them: { $why }
warning-not-lent = left out, because it is not a sealed file: { $path }
lease-requested = asked for; an administrator decides with "tobari admin lease approve { $lease }"
lease-unreported = { $count } acts under leases of this terminal are not known to the key server yet
lease-refilled = the lease { $lease } has { $count } files now
lease-refilled-later = the lease { $lease } has { $count } files now; this terminal has yet to fetch it with "tobari lease list"
lease-returned = the lease { $lease } is given back
lease-returned-later = the lease { $lease } is given back here; the key server learns of it when it is reached
lease-held = lease { $lease } until { $until }, opened { $used } / { $opens }
lease-unlimited = unlimited
lease-state-requested = requested
lease-state-refused = refused
lease-state-issued = issued
lease-state-returned = returned
lease-state-revoked = revoked
lease-ledger-empty = nothing was taken along
ledger-issued = issued
ledger-opened = opened ({ $right })
ledger-returned = returned
column-lease = LEASE
column-from = FROM
column-until = UNTIL
column-opened = OPENED
column-files = FILES
column-file-name = FILE NAME
column-file = FILE ID
column-usable = USABLE NOW
