-- A send whose outcome is unknown counts: the message may well have arrived.
with sends as (
    select send_key, customer_id, channel, max(attempted_at) as sent_at
    from {{ ref('fct_deliveries') }}
    where status in ('accepted', 'unknown')
    group by 1, 2, 3
)

select
    customer_id,
    max(sent_at) as last_send_at,
    cast(count(*) as integer) as step,
    {% for channel in ['email', 'push', 'sms'] %}
    sum(case when channel = '{{ channel }}' then 1 else 0 end) as {{ channel }}_sends,
    {% for days in [1, 7, 30] %}
    {{ nextmove.count_within('sent_at', 24 * days, "channel = '" ~ channel ~ "'") }} as {{ channel }}_sends_{{ days }}d,
    {% endfor %}
    {% endfor %}
    {% for days in [1, 7, 30] %}
    {{ nextmove.count_within('sent_at', 24 * days) }} as sends_{{ days }}d{{ ',' if not loop.last }}
    {% endfor %}
from sends
group by 1
