with tasks as (
    select * from {{ ref('int_outbox__tasks') }}
)

select
    tasks.key,
    tasks.customer_id,
    tasks.contact_id,
    tasks.rep_id as hubspot_owner_id,
    tasks.subject as hs_task_subject,
    tasks.description as hs_task_body,
    tasks.decided_at as hs_timestamp
from tasks
