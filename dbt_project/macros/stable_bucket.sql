{#- A number from 0 to n - 1 that never changes for the same text, spread evenly over texts. -#}
{% macro stable_bucket(text, n) -%}
    {{ return(adapter.dispatch('stable_bucket', 'nextmove')(text, n)) }}
{%- endmacro %}

{% macro default__stable_bucket(text, n) -%}
    mod(cast(('0x' || substr(md5({{ text }}), 1, 7)) as integer), {{ n }})
{%- endmacro %}

{% macro postgres__stable_bucket(text, n) -%}
    mod(cast(cast('x0' || substr(md5({{ text }}), 1, 7) as bit(32)) as integer), {{ n }})
{%- endmacro %}

{% macro snowflake__stable_bucket(text, n) -%}
    mod(
        {%- for digit in range(7) %}
        {{ 16 ** (6 - digit) }} * (charindex(substr(md5({{ text }}), {{ digit + 1 }}, 1), '0123456789abcdef') - 1)
        {{- ' +' if not loop.last }}
        {%- endfor %},
        {{ n }}
    )
{%- endmacro %}
