"""One or two commands that work, for the foot of every `--help`; a test parses each of them."""

from __future__ import annotations

EXAMPLES = {
    "demo": ["shopward demo", "shopward demo --adversary hard --seed 7"],
    "decide": [
        "shopward decide events.ndjson --out decisions.parquet",
        "shopward decide events/ --rulebook my-rules --labels labels.csv --out decisions.csv",
        "cat events.ndjson | shopward decide - --data shop-data",
    ],
    "features": [
        "shopward features events.parquet --rulebook my-rules --out features.parquet",
        "shopward features --list",
        "shopward features --sql device_accounts_24h",
    ],
    "backtest": [
        "shopward backtest events/ --labels labels.csv --rulebook my-rules --out report",
        "shopward backtest events/ --labels labels.csv --rulebook my-rules --against my-rules-new --sweep auto",
    ],
    "init": ["shopward init my-rules --pack buyer"],
    "rules check": ["shopward rules check my-rules"],
    "rules test": ["shopward rules test my-rules", "shopward rules test my-rules --rule coupon_ring"],
    "rules diff": ["shopward rules diff my-rules my-rules-new"],
    "rules mine": ["shopward rules mine events/ --labels labels.csv --rulebook my-rules --out drafts"],
    "rules catalogue": ["shopward rules catalogue my-rules > catalogue.md"],
    "rules coverage": ["shopward rules coverage my-rules > coverage.md"],
    "model train": [
        "shopward model train --events events/ --labels labels.csv --until 2026-06-30 --delay 7d --out payments",
        "shopward model train table.csv --label fraud --time when --out m",
    ],
    "model score": [
        "shopward model score --events events/ --labels labels.csv --model payments --from 2026-07-01 --out scores.parquet"
    ],
    "model audit": ["shopward model audit table.parquet --label fraud --time when"],
    "model deploy": ["shopward model deploy payments --data shop-data --rulebook my-rules --shadow"],
    "model rollback": ["shopward model rollback payments --data shop-data --rulebook my-rules"],
    "model list": ["shopward model list --data shop-data"],
    "model monitor": ["shopward model monitor --model payments --events events/ --from 2026-08-01"],
    "model evaluate": [
        "shopward model evaluate scores.parquet --events events/ --labels labels.csv --out evaluation.html"
    ],
    "model compare": ["shopward model compare payments.runs.ndjson"],
    "model published": ["shopward model published ulb --path creditcard.csv"],
    "market": ["shopward market shop --seed 7 --days 30 --accounts 20000 --adversary hard"],
    "serve": [
        "shopward serve --data shop-data --port 8080",
        "shopward serve --follow shop-data --port 8081",
    ],
    "serve token create": ["shopward serve token create shop --scope decide --scope label --data shop-data"],
    "serve token list": ["shopward serve token list --data shop-data"],
    "serve token revoke": ["shopward serve token revoke shop --data shop-data"],
    "serve kafka": ["shopward serve kafka --brokers localhost:9092 --events events --decisions decisions"],
    "label": ["shopward label labels.csv --data shop-data"],
    "list add": ['shopward list add blocked_devices d1 --expires 7d --reason "three stolen cards" --data shop-data'],
    "list remove": ["shopward list remove blocked_devices d1 --data shop-data"],
    "list show": ["shopward list show blocked_devices --data shop-data"],
    "report": ["shopward report --data shop-data --since 7d", "shopward report --since 30d --out month.html"],
    "traffic attacks": ["shopward traffic attacks access.log --out verdicts.parquet --campaigns campaigns.json"],
    "traffic assets": ["shopward traffic assets access.log --out assets.parquet --openapi shop.json"],
    "traffic leaks": ["shopward traffic leaks bodies.ndjson logs/ --out leaks.csv"],
    "traffic exposure": ["shopward traffic exposure access.ndjson --data shop-data"],
    "traffic scan": ["shopward traffic scan access.log --out today --data shop-data --resume positions.json"],
    "traffic events": ["shopward traffic events access.log --out requests.ndjson"],
    "sql": [
        'shopward sql "select action, count(*) as n from decisions group by action" --data shop-data',
        'shopward sql "select * from findings" --format csv --out findings.csv',
    ],
    "lake compact": ["shopward lake compact --data shop-data"],
    "lake merge": ["shopward lake merge --data shop-data"],
    "lake stats": ["shopward lake stats --data shop-data"],
    "lake ddl": ["shopward lake ddl --data shop-data --dialect spark --location s3://bucket/lake"],
    "lake erase": ["shopward lake erase --entity account:a1 --data shop-data"],
    "lake tag": ['shopward lake tag "GET shop.example/api/orders/{order_id}" --owner team-orders --level 4'],
}
