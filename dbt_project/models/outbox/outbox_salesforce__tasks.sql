with tasks as (
    select * from {{ ref('int_outbox__tasks') }}
)

select
    tasks.key,
    tasks.customer_id,
    tasks.contact_id,
    tasks.account_id,
    tasks.rep_id as owner_id,
    tasks.subject,
    tasks.description,
    cast(cast(tasks.decided_at as date) as text) as due_on
from tasks
