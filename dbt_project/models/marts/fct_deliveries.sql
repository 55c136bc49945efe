with receipts as (
    select * from {{ ref('stg_nextmove__receipts') }} where attempted_at <= {{ nextmove.as_of() }}
),

decisions as (
    select * from {{ ref('fct_decisions') }}
)

select
    receipts.send_key,
    receipts.attempt,
    receipts.decision_id,
    decisions.agent,
    decisions.customer_id,
    decisions.action,
    decisions.channel,
    receipts.destination,
    receipts.stream,
    receipts.status,
    receipts.reason,
    receipts.http_status,
    receipts.vendor_ref,
    receipts.attempted_at
from receipts
inner join decisions on receipts.decision_id = decisions.decision_id
