# コマンドのメッセージ。何が、どれが、なぜ、の順に書く。

## 語
none = なし
yes = はい
no = いいえ
never = なし
kind-label = 区分
kind-group = 部署
kind-post = 職位
kind-person = 利用者
kind-rule = 規則
kind-folder = 指定フォルダ
kind-terminal = 端末
kind-preset = ひな形

## OS の原因
cause-not-found = ファイルまたはフォルダがありません
cause-permission-denied = 権限がありません
cause-connection-refused = 接続を拒否されました
cause-storage-full = ディスクの空きがありません
cause-quota-exceeded = ディスクの割り当てを使い切りました
cause-read-only = 読み取り専用のファイルシステムです
cause-is-a-directory = フォルダです
cause-not-a-directory = パスの途中がフォルダではありません
cause-unexpected-end = 途中で終わりました

## 入力の求め
prompt-login = ログイン名:{" "}
prompt-password = パスワード:{" "}
prompt-totp = 認証コード (なければ空のまま Enter):{" "}
prompt-new-password = 新しいパスワード:{" "}
prompt-again = もう一度:{" "}

## login, logout, whoami
logged-in = { $login } ({ $name }) としてログインしました。有効期限 { $expires }
logged-out = ログアウトしました
whoami-login = ログイン名
whoami-name = 氏名
whoami-memberships = 所属
whoami-roles = 管理者の役割
whoami-second-factor = 二要素認証
whoami-expires = 有効期限

## status
status-program = デーモン
status-terminal = 端末
status-organisation = 組織
status-key-server = 鍵サーバー
status-contact = 最終接続
status-contact-lost = { $seen }。現在は失敗: { $error }
status-certificate = 証明書の期限
status-bulletin = 告示
status-bulletin-value = 第 { $number } 号 ({ $issued })
status-no-folders = この端末に指定フォルダはありません
status-watched = 監視中
status-watched-by = 監視中 ({ $source })
status-coverage = 封緘率 { $share } %、現在未封緘 { $plain } 件、最古は { $since }
status-not-watched = 監視していません: { $error }
status-folder = フォルダ { $path } ({ $label }): { $watched }、封緘済み { $sealed } 件 ({ $bytes } バイト)、待ち { $waiting } 件、最終巡回 { $swept }
status-sweep = 巡回中: { $files } 件を確認、毎秒 { $rate } 件; 約 { $done } % 済み、{ $left }
status-sealing = 封緘中: 毎秒 { $rate } 件、{ $left }
status-sweep-left = 残り約 { $left }
status-sweep-left-unknown = 残り時間はまだ不明
status-all-sealed = 封緘されていないファイルはありません
status-unsealed = 封緘されていないもの { $count } 件:
status-next-try = 次の試行 { $time }
status-since = { $age }前 ({ $time }) から、試行 { $tries } 回
unit-days = { $count } 日
unit-hours = { $count } 時間
unit-minutes = { $count } 分
unit-seconds = { $count } 秒
status-left-alone = 対象外
unsealed-in-use = ほかのプログラムが使用中
unsealed-hard-linked = ほかのハードリンクがある
unsealed-immutable = 変更不可または追記専用
unsealed-no-space = ディスクの空きがない
unsealed-unreadable = 読めない
unsealed-changed = 封緘中に変更された
unsealed-other-file-system = 別のファイルシステムにある
unsealed-foreign-envelope = 壊れているか、別の組織の封緘ファイル
unsealed-read-back-failed = 書いた内容を読み返せなかったため、元のファイルを残した
unsealed-no-key = この端末に区分の鍵がない
unsealed-system = OS のエラー

## info
info-not-sealed = { $path }: 封緘されていません。{ $size } バイト
info-label = 区分
info-label-value = { $label } (レベル { $level })
info-owner-group = 所有部署
info-unknown-group = 部署 { $id }
info-size = 大きさ
info-size-value = { $size } バイト (ディスク上 { $stored })
info-sealed = 封緘
info-sealed-value = { $time }、端末 { $terminal }
info-recipients = 開封できる鍵
info-recipient-label = 区分の鍵 { $id } ({ $kind })
info-recipient-recovery = 回復用の鍵 { $id } ({ $kind })
info-recipient-unknown = 鍵 { $id } ({ $kind })
info-file = ファイル ID
info-may = 私の権利
info-may-nothing = なし
info-may-unknown = 不明: { $why } [{ $code }]。{ $hint }
info-may-unasked = 不明: 先に「tobari login」でログインしてください
reason-allow = 許可 { $rights }: { $membership } (規則 { $rule })
reason-deny = 拒否 { $rights }: { $membership } (規則 { $rule })

## cat, unseal, verify, seal, zip
verified = { $path }: 欠けも改変もありません。{ $bytes } バイト
unsealed = { $path }: 平文で保存しました。{ $bytes } バイト
sealed = { $path }: { $label } として封緘しました
rewritten = { $done } 件を変更、{ $current } 件は変更不要、{ $skipped } 件は未封緘、{ $failed } 件は失敗
already-sealed = { $path }: すでに封緘されています
zipped = { $path }: { $entries } 件、{ $bytes } バイト
zip-password = パスワード (今回だけ表示): { $password }
warning-refused = { $path }: { $why }
warning-designated = { $path } は指定フォルダの中にあり、そこで封緘されます
warning-interrupted-tail = { $path }: 末尾の { $bytes } バイトは中断された書き込みによるもので、除きました
warning-skipped = 通常のファイルではないため除きました: { $path }
warning-zipcrypto = ZipCrypto は弱く、書庫を手に入れた人はパスワードなしで開けられます
warning-short-password = パスワードが { $length } 文字より短く、書庫は際限なく試されるおそれがあります
warning-refresh = 変更は済みましたが、この端末にはまだ伝わっていません: { $why }

## drill
drill-role-outside = 同じ利用者の、セッションの外のプログラム
drill-role-inside = セッションの中のプログラム
drill-role-other = このホストの別の利用者
drill-role-view = 表示だけできる人
drill-got-plaintext = 平文
drill-got-ciphertext = 暗号文
drill-got-nothing = 何も得られない
drill-got-not-tried = 試していない
drill-leak = 漏えい
drill-not-stopped = 止めない
drill-open-question = ?
drill-held = 守られた
drill-not-tried = この命令では試していないもの
drill-sum = { $all } の経路のうち { $tried } を試しました。漏えい: { $leaks }

## scan-coverage
coverage-files = ファイル
coverage-bytes = バイト
coverage-sealed = 封緘済み
coverage-plain = 未封緘
coverage-damaged = 壊れた封緘ファイル
coverage-foreign = 別の組織の封緘ファイル
coverage-unreadable = 読めない
coverage-share = 封緘済み: ファイル数の { $files } %、バイト数の { $bytes } %
coverage-oldest = 最も古い未封緘: { $path }、{ $time } ({ $days } 日 { $hours } 時間前)

## admin
column-name = 名前
column-path = パス
column-level = レベル
column-key-kind = 鍵の種類
column-generation = 世代
column-legacy-zip = 旧式ZIP
column-key = 鍵
column-id = ID
column-rank = 順位
column-login = ログイン名
column-person-name = 氏名
column-memberships = 所属
column-roles = 管理者の役割
column-disabled = 停止
column-totp = TOTP
column-label = 区分
column-groups = 部署
column-posts = 職位
column-effect = 効果
column-conditions = 条件
column-note = 備考
column-owner-group = 所有部署
column-terminal = 端末
column-exclude = 対象外
column-zone = ゾーン
column-tags = タグ
column-gateway = 仲介
column-revoked = 失効
column-frozen = 凍結
column-kind = 種類
column-subject = 対象
column-reason = 理由
column-by = 実行者
column-since = 開始
column-certificate = 証明書の期限
column-seen = 最終接続
column-protection = 鍵の保護
column-leases = 貸出中
column-coverage = 封緘率
terminal-sealed = { $share } %
terminal-sealed-but = { $share } %、未封緘 { $plain } 件、最古は { $age }
protection-none = なし
protection-machine = 機器
protection-tpm = TPM
column-title = 題名
column-labels = 区分
removed = 削除しました: { $id }
otpauth-once = 上のアドレスは認証アプリの秘密です。今回だけ表示します
bulletin-in-force = 告示 { $number } ({ $issued }) が有効です
token-made = 有効期限 { $expires }。端末は --ca-sha256 { $fingerprint } で CA を確かめます
preset-applied = ひな形 { $preset } を適用しました。区分: { $labels }、職位: { $posts }、規則: { $rules } 件
audit-number = 番号
audit-time = 日時
audit-act = 種類
audit-person = 人
audit-object = ファイル・対象
audit-more = 権限・理由・内容
audit-exported = 第 { $last } 号までの { $count } 件を書き出しました
audit-export-verified = 書き出しは正しいものです: { $size } 件中の第 { $first } 号から第 { $last } 号、{ $count } 件。照合した立会人の控え: { $witnessed }
warning-restored = 第 { $sequence } 号で古いデータベースを引き継いでいます。立会人が見ていた第 { $last } 号までの記録が失われました
audit-verified = 監査記録の連鎖は正しくつながっています: { $count } 件、第 { $last } 号まで、ハッシュ { $hash }

## デーモンと鍵サーバーのエラー
error-invalid-request = 許されない値です ({ $field }): { $detail }
hint-invalid-request = 値を直して、もう一度実行してください
error-unreadable-envelope = 封緘ファイルを読めません: ヘッダーが壊れているか、別の組織のものか、知らない鍵で封緘されています
hint-unreadable-envelope = 写しやバックアップと比べてください。ファイルが名のる組織は「tobari info」で見られます
error-bad-credentials = ログイン名、パスワード、認証コードのいずれかが違います
hint-bad-credentials = もう一度試してください。何度も失敗すると、しばらくロックされます
error-not-logged-in = ログインしていないか、セッションが終わりました
hint-not-logged-in = 「tobari login」でログインしてください
error-terminal-not-accepted = 鍵サーバーがこの端末を受け入れません: { $detail }
hint-terminal-not-accepted = 端末が失効していないか管理者に確かめ、「tobarid enrol」で登録し直してください
error-terminal-frozen = この端末は管理者により凍結されています。今は何も開けません
hint-terminal-frozen = 解除は端末の管理者が「tobari admin terminal unfreeze」で行います
error-bad-enrolment-token = 登録トークンが知られていないか、使用済みか、期限切れです
hint-bad-enrolment-token = 「tobari admin token」で新しく作ってください
error-not-administrator = あなたの管理者の役割では、この操作はできません
hint-not-administrator = 役割は「tobari whoami」で見られます。役割のある人に頼んでください
error-second-person-needed = 権限を広げる操作なので、もう一人の承認が要ります
hint-second-person-needed = --request 理由 を付けて申請し、別の管理者が「tobari admin request approve」で承認します
error-second-person-needed-unseal = この 1 時間に一人で平文に戻せる数に達しています。さらに戻すには、もう一人の承認が要ります
error-step-up-needed = 認証アプリの新しいコードが要ります
hint-step-up-needed = 「tobari admin step-up」で示してください。5 分間有効です
error-invariant-broken = この変更は不変条件 { $field } に反します: { $detail }
hint-invariant-broken = 別の変更にするか、先に不変条件を見直してください。「tobari admin invariant list」で見られます
error-not-gateway = この端末は、ほかの人に代わって要求できません
hint-not-gateway = 端末の管理者が「tobari admin terminal set 端末 --gateway」で許可します
error-right-refused = 規則により拒否されました。ここでできること: { $rights }
error-right-refused-label = 「{ $label }」に対する権利 { $right } は、規則により、今ここでは認められません。できること: { $rights }
error-right-refused-right = 権利 { $right } は、規則により、今ここでは認められません。できること: { $rights }
error-right-refused-legacy = 区分「{ $label }」のファイルは、古い弱い暗号の ZIP では送れません
error-right-refused-lease = 持ち出せません。持ち出しには権利 offline と、持ち出すそれぞれの権利が要ります。{ $detail }
hint-right-refused = 理由は「tobari info」で見られます。ファイルを所有する部署に相談してください
error-revoked = このファイル、またはその区分は管理者により失効しています。解除されるまで誰も開けません
hint-revoked = 管理者に確かめてください。理由は「tobari admin revoke list」で見られます
error-key-retired = このファイルを封緘した鍵は廃止されています。組織の回復用の鍵でだけ開けます
hint-key-retired = 管理者に依頼してください。「tobari-keyserver recovery open」で開けます
error-not-found = 見つかりません ({ $field }): { $detail }
hint-not-found = あるものは「tobari admin ... list」で一覧できます
error-conflict = 名前が使われているか、対象が使用中です: { $detail }
hint-conflict = 別の名前にするか、使っているものを先に削除してください
error-too-large = 要求が大きすぎます: { $detail }
hint-too-large = 小さく分けてください
error-locked-out = ログインの失敗が多すぎます。{ $seconds } 秒間ロックされています
hint-locked-out = { $seconds } 秒待って正しいパスワードでログインするか、管理者に相談してください
error-too-many-requests = 要求が多すぎます。{ $seconds } 秒後にもう一度試してください
hint-too-many-requests = { $seconds } 秒待ってください
error-internal = 内部エラー: { $detail }
hint-internal = 要求 ID { $request } とその時刻のログを添えて報告してください
error-audit-unavailable = 鍵サーバーが監査記録を書けないため、鍵を出せません
hint-audit-unavailable = しばらくして試すか、鍵サーバーの管理者に知らせてください
error-store-unavailable = 鍵サーバーがデータベースに届きません
hint-store-unavailable = しばらくして試すか、鍵サーバーの管理者に知らせてください
error-outcome-unknown = 変更が行われたかどうか分かりません: { $detail }
hint-outcome-unknown = 済んでいるか、まだ処理中かもしれません。やり直す前に show、list または「tobari admin policy history」で確かめてください
waiting-for-key-server = 鍵サーバーの応答を待っています（{ $seconds } 秒）
error-key-server-unreachable = 鍵サーバーに届きません: { $detail }
hint-key-server-unreachable = ネットワークと「tobari status」を確かめてください。封緘は続きますが、開封には鍵サーバーが必要です
error-certificate-expired = この端末の証明書の期限が切れています
hint-certificate-expired = 「tobarid enrol」で登録し直してください。期限は「tobari status」で見られます
error-not-configured = この端末ではその操作が設定されていません: { $detail }
hint-not-configured = tobarid の設定の roles を確かめてください
error-corrupt-envelope = 封緘された内容が壊れているか、途中で切れているか、改変されています
error-corrupt-envelope-whole = 封緘された内容が壊れているか、途中で切れているか、改変されています。内容は何も出していません
error-corrupt-envelope-tail = 封緘された内容が壊れているか、途中で切れているか、改変されています。本物と確かめられたのは先頭の { $bytes } バイトだけです
hint-corrupt-envelope = 確かめられない部分は書き出していません。バックアップからファイルを戻してください
error-local-io = 手元のファイルを読み書きできませんでした: { $detail }
hint-local-io = 権限とディスクを確かめてください。書きかけのものは残していません

## このプログラムのエラー
error-daemon-unreachable = デーモンが { $path } で応答しません: { $cause }
hint-daemon-unreachable = tobarid を起動するか (systemctl start tobarid)、TOBARI_SOCKET または --socket でソケットを指定してください
error-daemon-lost = デーモンとの接続が途中で切れました: { $cause }
hint-daemon-lost = ログ (journalctl -u tobarid) を見て、もう一度実行してください
error-daemon-answer = デーモンまたは鍵サーバーの返事を解釈できません
hint-daemon-answer = tobari、tobarid、tobari-keyserver が同じ版か確かめてください
error-daemon-version = デーモン (tobarid { $program }) の通信の版 { $version } は、このプログラムと違います
hint-daemon-version = 同じ版の tobari と tobarid を入れ、tobarid を再起動してください
error-no-space = 空きがありません: { $path }: { $cause }
hint-no-space = 空きを作るか、別の場所を選んでください。書きかけのものは残していません
error-broken-pipe = 標準出力の読み手がいなくなりました
hint-broken-pipe = することはありません
error-exists = { $path } はすでにあるため、上書きしません
hint-exists = 別の名前にするか、先に削除してください
error-not-regular = { $path } は通常のファイルではありません
hint-not-regular = 通常のファイルを指定してください
error-hard-linked = { $path } にはほかのハードリンクがあり、元の内容が残ってしまいます
hint-hard-linked = ほかのリンクを削除するか、-o で別のファイルに書いてください
error-not-sealed = { $path } は封緘されていません
hint-not-sealed = そのまま読むか、「tobari seal」で封緘してください
error-not-utf8 = { $path } の名前が UTF-8 ではありません
hint-not-utf8 = ファイル名を変えて (Shift_JIS の名前なら convmv -f cp932 -t utf8 --notest FILE)、もう一度実行してください
error-file-changed = { $path } は作業中にほかで変更されたため、そのままにしました
hint-file-changed = だれも使っていないときに、もう一度実行してください
error-same-name = 書庫の中で { $name } が重なります
hint-same-name = 上のフォルダを指定するか、書庫を二つに分けてください
error-nothing-to-send = 書庫に入れる通常のファイルがありません
hint-nothing-to-send = ファイルか、ファイルのあるフォルダを指定してください
error-seal = { $path } を封緘できませんでした: { $detail }
hint-seal = ファイルは元のままです。「tobari status」を確かめて、もう一度実行してください
error-read-back = { $path } の封緘した写しを読み返せないため、元のファイルを残しました
hint-read-back = メモリ、ディスク、CPU の故障かもしれません。続ける前に機械を点検してください
error-no-label = { $path } の区分がわかりません。指定フォルダの中にありません
hint-no-label = --label で指定してください。あるもの: { $known }
error-unknown-name = { $name } という{ $kind }はありません
hint-unknown-name = あるもの: { $known }
hint-unknown-name-person = いる人は 'tobari admin person list' で見られます
hint-unknown-name-terminal = ある端末は 'tobari admin terminal list' で見られます
hint-unknown-name-lease = 持ち出しとその状態は 'tobari admin lease list' と 'tobari lease list' で見られます
hint-unknown-name-request = 申請は 'tobari admin request list' で見られます
error-ambiguous-name = { $name } という{ $kind }が複数あります
hint-ambiguous-name = パスか ID で一つを指定してください: { $known }
error-no-terminal = パスワードが必要ですが、尋ねる端末画面がありません
hint-no-terminal = --password-stdin で標準入力から渡してください
error-passwords-differ = 二つのパスワードが違います
hint-passwords-differ = もう一度実行してください
error-session-program = プログラムを起動できません: { $detail }
hint-session-program = セッションから見えるのは、システムとホームのプログラムだけです（ほかの場所は tobarid の設定の visible）
error-session-below = このセッションはより低いラベルのファイルに書き込んだため、このファイルはもう読めません。別のセッションで開いてください
error-session-relabel = このセッションはより高いラベルのファイルを読みました。このファイルのラベルを上げる権利がないため、ここでは書き込めません
error-session-wider = このセッションで読み書きしたファイルと権利が合いません。このファイルは別のセッションで開いてください
error-session-print = 印刷できるセッションでは、印刷の権利のないファイルは開けません。--print を付けずに開いてください
error-session-plain = セッションの中では、封緘されていないファイルには書き込めません
error-not-designated = { $path } はこの端末の指定フォルダの中にありません
hint-not-designated = セッションの中で開いて見せるのは指定フォルダだけです（「tobari status」）。内容は「tobari cat」で読めます
error-no-application = { $path }（{ $kind }）を開くアプリが見つかりません
hint-no-application = --with でアプリを指定してください
error-leaked = { $ways } 個の経路で、得られないはずの平文が得られました
hint-leaked = 「漏えい」の行を見てください。何が止めるはずかは docs/leak-matrix.ja.md にあります
error-not-covered = { $all } 件のうち { $open } 件は封緘が確かめられません
hint-not-covered = --list で一覧できます。理由は「tobari status --unsealed」で見られます
error-export-line = 書き出しの { $line } 行目がそこにあるべきものではありません
hint-export-line = もう一度書き出してください。完全なはずのものなら、このファイルを保全してください
error-export-cut = 書き出しが途中で切れています
hint-export-cut = もう一度書き出すか、保管した場所から取り直してください
error-export-count = 書き出しには { $found } 件ありますが、末尾には { $said } 件と書かれています
hint-export-count = もう一度書き出してください。完全なはずのものなら、このファイルを保全してください
error-export-unsigned = この鍵で署名された書き出しではありません: { $detail }
hint-export-unsigned = この組織のものとして控えた鍵かどうか確かめてください
error-export-altered = 第 { $first } 号から第 { $last } 号の間の記録が、書き換え・削除・追加・入れ替えされています
hint-export-altered = このファイルをそのまま保全し、別の書き出しや立会人の控えと比べてください
error-export-end-cut = 記録は第 { $size } 号で終わっていますが、立会人は第 { $witnessed } 号まで見ています。末尾が切り取られています
hint-export-end-cut = 鍵サーバーのデータベースをそのまま保全してください。失われた記録は新しいバックアップにあるかもしれません
error-export-rewritten = 立会人が見た最初の { $size } 件と記録が違います。記録が書き直されています
hint-export-rewritten = 鍵サーバーのデータベースをそのまま保全し、バックアップと比べてください
error-witness-file = 立会人の控えを使えません: { $detail }
hint-witness-file = この組織の記録を見た立会人の、控えのファイルを指定してください
error-usage-audit-act = 「{ $detail }」という種類の記録はありません
hint-usage-audit-act = grant、refusal、login、create、update、delete などを指定してください
error-usage-audit-time = 「{ $detail }」は日時ではありません
hint-usage-audit-time = 2026-11-21 や 2026-11-21T09:00 のように書いてください
error-usage-audit-key = 「{ $detail }」は監査記録の鍵ではありません
hint-usage-audit-key = 「tobari audit key」が表示したものを指定してください
error-audit-broken = 監査記録の連鎖が第 { $sequence } 号で切れています
hint-audit-broken = 鍵サーバーのデータベースをそのまま保全し、控えの写しやバックアップと比べてください
error-io-open = { $path } を開けません: { $cause }
hint-io-open = パスと権限を確かめてください
error-io-read = { $path } を読めません: { $cause }
hint-io-read = ファイルとディスクを確かめてください
error-io-write = { $path } に書けません: { $cause }
hint-io-write = ディスクを確かめてください。書きかけのものは残していません
error-io-create = { $path } を作れません: { $cause }
hint-io-create = フォルダがあり、書き込みの権限があるか確かめてください
error-io-attributes = { $path } の所有者、権限、日時、アクセス制御を引き継げません: { $cause }
hint-io-attributes = ファイルは元のままです。所有者として実行するか、-o で別のファイルに書いてください
error-io-replace = { $path } を置き換えられません: { $cause }
hint-io-replace = ファイルは元のままです。-o で別のファイルに書いてください
error-usage-command-line = コマンドの書き方が違います: { $detail }
hint-usage-command-line = 「tobari --help」を見てください
error-usage-one-output = -o で指定できるのは一つですが、入力が { $detail } 件あります
hint-usage-one-output = --output-dir か --in-place を使うか、入力を一つずつにしてください
error-usage-password-empty = パスワードが空です
hint-usage-password-empty = 標準入力の一行目に書くか、入力してください
error-usage-membership = { $detail } は所属の書き方ではありません
hint-usage-membership = 「総務部/人事課:課長」のように、部署:職位 と書いてください
error-usage-post-selector = { $detail } は職位の選び方ではありません
hint-usage-post-selector = any、職位の名前、rank>=N (N は 0 から 1000) のいずれかで書いてください
error-usage-nothing-to-set = 変更するものが指定されていません
hint-usage-nothing-to-set = 指定できるものは --help で見られます
error-usage-name-slash = { $detail } はパスなのに、--parent も指定されています
hint-usage-name-slash = パスと --parent のどちらかだけを指定してください
error-usage-login-missing = --password-stdin のときはログイン名が必要です
hint-usage-login-missing = 「tobari login ログイン名 --password-stdin」と書いてください

## admin explain, policy, invariant, request
kind-invariant = 不変条件
kind-request = 申請
prompt-fresh-totp = 認証アプリのコード:{" "}
explain-allowed = { $login } は { $label } のファイルを { $right } できます
explain-refused = { $login } は { $label } のファイルを { $right } できません
explain-disabled = この利用者は締め出されています
explain-no-rule = この権利を与える規則がありません
policy-restored = ポリシーを版 { $version } に戻しました
unseal-limit-set = 一人が 1 時間に平文に戻せるファイルの数: { $files }
unlimited = 無制限
second-person-on = 今後、権限を広げる操作にはもう一人の承認が要ります
second-person-off = 今後、権限を広げる操作に承認は要りません
stepped-up = コードは { $time } まで有効です
request-made = 実行しました: { $summary }
request-pending = 承認待ち
request-approved = 承認済み
request-refused = 却下
request-applied = 実行済み
request-expired = 期限切れ
diff-version = ポリシーの版 { $version } と比べました。+ は得る権利、- は失う権利
diff-nothing = 誰の権利も変わりません
diff-unknown = 場合が多すぎて比べられません。得る権利も失う権利も分かりません
diff-more = ほかに { $count } 件。--json で見られます
diff-leases = 貸出中の持ち出しのうち { $ended } 件を取り消し、{ $narrowed } 件を狭めます:
diff-leases-more = ほかに { $count } 件の持ち出し
diff-lease-parts = ほかに { $count } 件。--json で見られます
column-lost = 失う権利
column-left = 残る権利
diff-any-zone = (ほかの) すべて
diff-breaks = 不変条件 { $name } に反します: { $group } { $post } が { $label } を { $right } できることになります
diff-second-person = もう一人の承認が要ります: { $why }
widens-rights = 権利を与える
widens-unknown = 比べられない
widens-keys = 区分の鍵を変える
widens-label = 区分の保護を弱める
widens-administrator = 管理者を増やす、または変える
widens-invariant = 不変条件を外す、または変える
widens-second-person = 承認の定めをやめる
widens-revocation = 止めたものを再び許す
widens-lease = 最も高い区分のファイルを貸し出す
widens-unsealing = 多くのファイルを平文に戻せるようにする
case-own = 自部署のファイル
case-above = 上位部署のファイル
case-group = 部署 { $group } のファイル
case-other = ほかの部署のファイル
case-with-factor = 二要素あり
case-without-factor = 二要素なし
case-protection = 鍵の保護が { $protection }
case-tags = タグ { $tags }
case-from = { $time } から
column-version = 版
column-retired = 廃止した鍵
column-bulletin-hours = 失効情報の期限 (時間)
column-second-person = もう一人の承認
column-approvers = 承認できる人
column-unseal-files = 平文に戻せる数
column-unseal-windows = 一時的に多く戻せる人
column-time = 日時
column-act = 操作
column-object = 対象
column-detail = 内容
column-state = 状態
column-requested-by = 申請者
column-expires = 期限
column-summary = 内容
column-decided = 判断
column-group = 部署
column-post = 職位
column-rights = 権利
column-cases = 限定
error-usage-no-policy-act = --dry-run、--request、--reason は区分、部署、職位、利用者、規則、不変条件の変更と、二人の要る操作に使います
hint-usage-no-policy-act = これらを付けずに実行してください
error-usage-label-scope = { $detail } は区分の選び方ではありません
hint-usage-label-scope = any、区分の名前、level>=N (N は 0 から 1000) のいずれかで書いてください

## 持ち出し

error-lease-refused = { $field ->
    [ended] 持ち出しの期限が過ぎています: { $detail }
    [not-begun] 持ち出しはまだ始まっていません: { $detail }
    [used-up] 持ち出しの回数を使い切りました: { $detail }
    [clock] この端末の時計を信用できません: { $detail }
    [right] この持ち出しに権利「{ $right }」は含まれていません
    [file] この持ち出しは、このファイルの別の区分か別の所有部署でのものです
    [bulletin] 失効情報が新しいことを、組織から長い間確かめられていません: { $detail }
    [state] この端末の持ち出しの記録を信用できません: { $detail }
   *[other] この持ち出しでは許されていません: { $detail }
}
hint-lease-refused = 「tobari lease list」で確かめ、鍵サーバーにつながるところで改めて申請してください。時計が違っていたとき、失効情報が古いときは鍵サーバーにつなぐか「tobari bulletin import」で取り込み、記録が信用できないときは端末を登録し直してください
error-usage-nothing-to-lend = 封緘されたファイルがありません
hint-usage-nothing-to-lend = 封緘されたファイルか、それを含むフォルダを指定してください
error-usage-lease-of-files = 持ち出し { $detail } はファイルの持ち出しで、区分の持ち出しではありません
hint-usage-lease-of-files = 新しい持ち出しを申請してください。「tobari lease request --label」で申請すると補充できます
error-usage-no-lease-of-label = この端末に、あなたの区分の持ち出しはありません
hint-usage-no-lease-of-label = 「tobari lease list」で確かめ、「tobari lease request --label」で申請してください
error-usage-which-lease = この端末に、あなたの区分の持ち出しが複数あります: { $detail }
hint-usage-which-lease = 「tobari lease refill ID」のように一つを指定してください
error-conflict-refill = { $field ->
    [refill-terminal] この持ち出しは別の端末のものです。その端末で補充してください
    [refill-label] この持ち出しは区分ではなくファイルのもので、補充できません
    [refill-over] この持ち出しは発行されていないか、もう終わっていて、補充できません
    [refill-second-person] 補充後に貸すものには二人目の承認が要り、補充では承認できません
   *[other] この持ち出しは補充できません: { $detail }
}
error-conflict-lease-state = この端末の持ち出しの記録が受け付けられず、持ち出しは終わりました
hint-conflict-lease-state = 端末の登録をやり直してください。tobaridを止め、新しいトークンで「tobarid enrol --force」を実行してから起動します
hint-conflict-refill = 「tobari lease list」で確かめ、新しい持ち出しを申請してください
error-conflict-lease = { $field ->
    [lease-is-requested] この持ち出しは申請中で、まだ決裁されていません
    [lease-is-issued] この持ち出しは、もう発行されています
    [lease-is-refused] この持ち出しは、もう却下されています
    [lease-is-returned] この持ち出しは、もう返却されています
    [lease-is-revoked] この持ち出しは、もう取り消されています
   *[other] この持ち出しは別の状態にあります: { $detail }
}
hint-conflict-lease = 「tobari admin lease show」で確かめてください
kind-lease = 持ち出し
warning-lease-exchange = この端末が知っている持ち出しを示します: { $why }
warning-not-lent = 封緘されたファイルではないので除きました: { $path }
lease-requested = 申請しました。管理者が「tobari admin lease approve { $lease }」で承認します
lease-unreported = この端末の持ち出しでの操作 { $count } 件は、まだ鍵サーバーに伝わっていません
lease-refilled = 持ち出し { $lease } のファイルは、いま { $count } 件です
lease-refilled-later = 持ち出し { $lease } のファイルは、いま { $count } 件です。この端末はまだ受け取っていません。「tobari lease list」で受け取ってください
lease-returned = 持ち出し { $lease } を返却しました
lease-returned-later = 持ち出し { $lease } をこの端末で返却しました。鍵サーバーにはつながったときに伝えます
lease-held = 持ち出し { $lease }、期限 { $until }、開いた回数 { $used } / { $opens }
lease-unlimited = 無制限
lease-state-requested = 申請中
lease-state-refused = 却下
lease-state-issued = 発行済み
lease-state-returned = 返却済み
lease-state-revoked = 失効
lease-ledger-empty = 持ち出しはありません
ledger-issued = 発行
ledger-opened = 開封 ({ $right })
ledger-returned = 返却
column-lease = 持ち出し
column-from = 開始
column-until = 期限
column-opened = 開いた回数
column-files = ファイル数
column-file-name = ファイル名
column-file = ファイル ID
column-usable = 今使えるか
